//! The command line: arguments, output and `main`. No mail logic.
