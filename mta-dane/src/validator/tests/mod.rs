//! Whole lookups against small signed worlds.

mod anchors;
mod bounds;
mod broken;
mod genuine;
mod hostile;
mod memory;
mod mutation;
mod replay;
