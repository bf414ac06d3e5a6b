//! The laboratory for a newcomer: sets up a private Internet, runs the daemon in it, shows what happened and why.

fn main() {}
