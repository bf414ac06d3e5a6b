//! Exit codes: what scripts may rely on.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// Done.
    pub const DONE: Self = Self(0);
    /// Done, but problems were found.
    pub const PROBLEMS: Self = Self(1);
    /// Nothing matched.
    pub const NOTHING: Self = Self(2);
    /// `tlsa verify`: no record is usable.
    pub const UNUSABLE: Self = Self(3);
    /// The command line is wrong.
    pub const USAGE: Self = Self(64);
    /// The daemon cannot be reached.
    pub const UNREACHABLE: Self = Self(69);
    /// A fault of this program.
    pub const INTERNAL: Self = Self(70);
    /// Try again later.
    pub const TEMPORARY: Self = Self(75);
    /// This user may not do that.
    pub const NOT_ALLOWED: Self = Self(77);
    /// The configuration is wrong.
    pub const CONFIGURATION: Self = Self(78);
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// What each code means, for the manual.
pub const MEANINGS: &[(Exit, &str)] = &[
    (Exit::DONE, "Done."),
    (
        Exit::PROBLEMS,
        "Done, but problems were found: no match in tlsa verify, bogus in dns lookup, mail that would wait or be returned in explain and probe.",
    ),
    (Exit::NOTHING, "Nothing matched, or there is no such domain (explain, probe)."),
    (Exit::UNUSABLE, "No record is usable (tlsa verify)."),
    (Exit::USAGE, "The command line is wrong."),
    (Exit::UNREACHABLE, "The daemon cannot be reached."),
    (Exit::INTERNAL, "A fault of this program."),
    (Exit::TEMPORARY, "A temporary failure; try again."),
    (Exit::NOT_ALLOWED, "This user may not do that."),
    (Exit::CONFIGURATION, "The configuration is wrong; nothing was started."),
];
