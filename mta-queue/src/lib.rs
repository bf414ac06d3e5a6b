//! The persistent mail queue: one SQLite database, one writer thread, group commit.
