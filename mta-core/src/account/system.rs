//! The users of the system, by name. Blocking: the name service may ask the network.
//!
//! What it does not: it decides nothing about who gets mail (`lookup`), and never becomes anybody (`delivery::process`).

use std::path::PathBuf;

/// A user of the system.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SystemUser {
    /// The name as the system has it.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The number of the first group.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
}

/// Who the system's users are.
pub trait Users {
    /// The user of this name.
    ///
    /// # Errors
    /// The name service does not answer: nobody can say whether there is one.
    fn find(&self, name: &str) -> Result<Option<SystemUser>, String>;
}

/// The users of this system, by getpwnam(3).
#[derive(Debug, Clone, Copy, Default)]
pub struct Passwd;

impl Users for Passwd {
    fn find(&self, name: &str) -> Result<Option<SystemUser>, String> {
        // What is no name of a user anywhere is not asked for: the name service may be a stranger's database.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 64 || name.starts_with(['-', '.']) || !name.chars().all(plain) {
            return Ok(None);
        }
        let found =
            nix::unistd::User::from_name(name).map_err(|error| format!("the system's users: {error}"))?;
        Ok(found.map(|user| SystemUser {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
        }))
    }
}
