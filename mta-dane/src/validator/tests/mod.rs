//! Whole lookups against small signed worlds.

mod genuine;
