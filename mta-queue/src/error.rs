//! What can go wrong in the queue, as values a test can compare.

use std::fmt;
use std::path::PathBuf;

use crate::id::QueueId;

/// Why the queue could not be opened. Each is one sentence for the administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// The state directory cannot be made, read or written.
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another process has the queue open for writing.
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The database was written by a newer version of this program.
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest we know.
        known: i64,
    },
    /// The database was written by an older version of this program, and nothing may be changed now.
    Older {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file is a database of another program, or no database.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// There is no queue here (read-only opening never makes one).
    Missing {
        /// The database looked for.
        path: PathBuf,
    },
    /// No space to make or migrate the database.
    NoSpace {
        /// The database.
        path: PathBuf,
    },
    /// SQLite reports something else.
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, reason } => write!(f, "state directory {}: {reason}", path.display()),
            Self::InUse { path } => {
                write!(f, "the queue is in use by another process, which holds {}", path.display())
            }
            Self::Newer { path, found, known } => write!(
                f,
                "{} has schema version {found}, this program knows versions up to {known}: install the newer program",
                path.display()
            ),
            Self::Older { path, found, known } => write!(
                f,
                "{}: schema version {found} is older than {known}; it is migrated when the daemon starts",
                path.display()
            ),
            Self::Foreign { path } => write!(f, "{} is not a queue database of this program", path.display()),
            Self::Missing { path } => write!(f, "there is no queue: {} does not exist", path.display()),
            Self::NoSpace { path } => write!(f, "no space left for {}", path.display()),
            Self::Database { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// Why an operation on the open queue failed. Nothing of it happened then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueError {
    /// The disk is full, or only the reserve is left (`Options::reserve_bytes`). Temporary: reply 452.
    NoSpace,
    /// The queue was closed, or its writer died. Temporary: reply 451.
    Closed,
    /// The operation makes no sense: no recipients, an id that is taken.
    Invalid(&'static str),
    /// Something that was stored is not there as it was. The message is set aside.
    Damaged(&'static str),
    /// The database or the disk reports something else. Temporary: reply 451.
    Storage(String),
}

/// What the administrator has to hear of, whoever met it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// A message whose row or content cannot be read was taken out of the way of the others.
    SetAside {
        /// The message.
        message: QueueId,
        /// What of it is damaged.
        reason: String,
    },
    /// The database could not be written, and not for want of space. What SQLite or the system said.
    Storage(String),
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace => f.write_str("no space left for the queue"),
            Self::Closed => f.write_str("the queue is closed"),
            Self::Invalid(what) | Self::Damaged(what) => f.write_str(what),
            Self::Storage(reason) => write!(f, "queue storage: {reason}"),
        }
    }
}

impl std::error::Error for QueueError {}

/// Whether SQLite met damage in its file, as opposed to a disk that is full or fails.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;

    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

impl From<rusqlite::Error> for QueueError {
    fn from(error: rusqlite::Error) -> Self {
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            return Self::NoSpace;
        }
        Self::Storage(error.to_string())
    }
}

impl From<std::io::Error> for QueueError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;

        if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            return Self::NoSpace;
        }
        Self::Storage(error.to_string())
    }
}
