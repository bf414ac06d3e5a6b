//! `[sendmail]`: mail from programs on this machine.

use std::path::{Path, PathBuf};

use mta_smtp::address::Domain;

use super::{Config, DomainName, system_name};

/// Mail from programs on this machine, by sendmail(1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sendmail {
    /// Where mail waits while the daemon is down; unset is a directory in the state directory.
    pub maildrop: Option<PathBuf>,
    /// The domain of addresses without one; unset is /etc/mailname, else the host name.
    pub origin: Option<DomainName>,
    /// Whether everybody may set any envelope sender.
    pub any_sender: bool,
    /// Who may where not everybody may.
    pub trusted_users: Vec<String>,
    /// Sessions at a time of one user.
    pub max_sessions_per_user: u32,
    /// Messages of one user within an hour; 0 is no bound.
    pub max_messages_per_hour: u32,
}

impl Config {
    /// Where the packages put what local programs need: for users who cannot read the configuration.
    pub fn as_packaged() -> Self {
        let mut config = Self { runtime_dir: Some(PathBuf::from("/run/mta")), ..Self::default() };
        config.sendmail.maildrop = Some(PathBuf::from("/var/spool/mta/maildrop"));
        config
    }

    /// The socket where local programs hand in mail.
    pub fn submit_socket(&self) -> PathBuf {
        self.runtime_dir.as_deref().unwrap_or(&self.state_dir).join("submit.sock")
    }

    /// Where their mail waits while the daemon is down.
    pub fn maildrop(&self) -> PathBuf {
        self.sendmail.maildrop.clone().unwrap_or_else(|| self.state_dir.join("maildrop"))
    }

    /// The domain that local programs' addresses get where they have none.
    pub fn origin(&self) -> Domain {
        let configured = self.sendmail.origin.clone();
        let name = configured.or_else(|| system_name(Path::new("/etc/mailname")));
        name.and_then(|name| Domain::parse(&name).ok()).unwrap_or_else(|| self.host_domain())
    }
}
