//! Giving up root: after the ports are bound and the keys are read, the process becomes the service user.
//!
//! Under systemd or procd the service starts as its own user and this module has nothing to do. What it does not:
//! sandboxing beyond the user (the unit file does that).

use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setuid};
use std::ffi::CString;

/// Why the user could not be changed. All are fatal: a server that meant to drop root must not run as root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrivilegeError {
    /// No such user on this system.
    NoSuchUser(String),
    /// The configured user is root itself.
    UserIsRoot(String),
    /// The system refused a step.
    Refused {
        /// The system call.
        step: &'static str,
        /// The system's own words.
        error: String,
    },
    /// The process could become root again after the change: the change did not hold.
    NotDropped,
}

impl std::fmt::Display for PrivilegeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchUser(name) => write!(
                f,
                "the user {name:?} does not exist: create it (adduser --system --group {name}) or set `user` to one that does"
            ),
            Self::UserIsRoot(name) => {
                write!(f, "`user` is {name:?}, which is root: set it to an unprivileged user")
            }
            Self::Refused { step, error } => write!(f, "cannot become the service user: {step}: {error}"),
            Self::NotDropped => write!(f, "root could be regained after giving it up: refusing to run"),
        }
    }
}

impl std::error::Error for PrivilegeError {}

/// The service user, looked up before anything is opened for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUser {
    name: String,
    uid: Uid,
    gid: Gid,
}

impl ServiceUser {
    /// Looks up `name`.
    ///
    /// # Errors
    /// [`PrivilegeError::NoSuchUser`], or [`PrivilegeError::UserIsRoot`] for uid 0.
    pub fn find(name: &str) -> Result<Self, PrivilegeError> {
        let user =
            User::from_name(name).ok().flatten().ok_or_else(|| PrivilegeError::NoSuchUser(name.into()))?;
        if user.uid.is_root() {
            return Err(PrivilegeError::UserIsRoot(name.into()));
        }
        Ok(Self { name: name.into(), uid: user.uid, gid: user.gid })
    }

    /// The user's number.
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// The number of the user's own group.
    pub fn gid(&self) -> u32 {
        self.gid.as_raw()
    }

    /// Becomes this user for good. Does nothing where the process is not root (it was started as its own user).
    ///
    /// Must run before threads that must not stay root are started: glibc changes all threads, other C libraries may not.
    ///
    /// # Errors
    /// Any refusal of the system, and [`PrivilegeError::NotDropped`] where root can be regained.
    pub fn become_for_good(&self) -> Result<(), PrivilegeError> {
        if !geteuid().is_root() {
            return Ok(());
        }
        let refused =
            |step| move |error: nix::Error| PrivilegeError::Refused { step, error: error.to_string() };
        let name =
            CString::new(self.name.as_str()).map_err(|_| PrivilegeError::NoSuchUser(self.name.clone()))?;
        initgroups(&name, self.gid).map_err(refused("initgroups"))?;
        setgid(self.gid).map_err(refused("setgid"))?;
        setuid(self.uid).map_err(refused("setuid"))?;
        if setuid(Uid::from_raw(0)).is_ok() || geteuid() != self.uid {
            return Err(PrivilegeError::NotDropped);
        }
        Ok(())
    }
}

/// True where the process runs as root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_nobody_are_told_apart() {
        assert_eq!(ServiceUser::find("root"), Err(PrivilegeError::UserIsRoot("root".into())));
        assert!(matches!(ServiceUser::find("no-such-user-xyz"), Err(PrivilegeError::NoSuchUser(_))));
        assert_ne!(ServiceUser::find("nobody").unwrap().uid(), 0);
    }
}
