//! The stages before anything runs: directories, ports, keys, then giving up root, then the queue.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use mta_queue::{OpenError, Queue};
use rustix::fs::{Access as FileAccess, AtFlags, CWD, accessat};
use rustls::ServerConfig;

use super::{CONFIGURATION, INTERNAL, NOT_ALLOWED, StartError, TEMPORARY};
use crate::config::Config;
use crate::control::{self, Access};
use crate::inbound::Service;
use crate::log::Line;
use crate::net::{ListenError, Listener, activated};
use crate::outbound::provider;
use crate::privilege::{ServiceUser, is_root};
use crate::sendmail::maildrop;
use crate::tls::identities::{self, Identities, Sources};
use crate::tls::server::Identity;

/// Everything that had to be had before the first task.
pub(super) struct Prepared {
    pub(super) listeners: Vec<(Service, Listener)>,
    pub(super) control: UnixListener,
    /// Where programs on this machine hand in mail.
    pub(super) local: UnixListener,
    pub(super) access: Access,
    pub(super) tls: Tls,
    pub(super) queue: Queue,
    /// The table of known replies.
    pub(super) providers: provider::Table,
}

/// What clients are shown.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) server: Arc<ServerConfig>,
    /// The same, asking clients for a certificate.
    pub(super) asking: Arc<ServerConfig>,
    pub(super) identities: Identities,
}

/// Runs the stages in order. Afterwards the process is no longer root.
pub(super) fn prepare(config: &Config) -> Result<Prepared, StartError> {
    let user = service_user(config)?;
    let access = Access::find(config.user.as_deref(), config.admin_group.as_deref())
        .map_err(|error| StartError::new(CONFIGURATION, error))?;
    make_folder(&config.state_dir, STATE_MODE, user.as_ref())?;
    check_writable(&config.state_dir)?;
    if let Some(folder) = config.runtime_dir.as_ref().filter(|folder| **folder != config.state_dir) {
        make_folder(folder, RUNTIME_MODE, user.as_ref())?;
        check_writable(folder)?;
    }
    let listeners = listeners(config)?;
    let socket = config.control_socket();
    let control = control::bind(&socket, &access).map_err(|error| socket_error(&socket, &error))?;
    let socket = config.submit_socket();
    let local = control::bind(&socket, &access).map_err(|error| socket_error(&socket, &error))?;
    make_maildrop(&config.maildrop(), user.as_ref());
    // A configured key may be readable by root alone. The own one is made and read as the service user, so that
    // nothing in a folder that user can write is ever touched by root.
    let sources = config.tls_sources();
    let configured = identities::configured(&sources).map_err(|error| {
        StartError::new(CONFIGURATION, format!("tls.certificate_file and others: {error}"))
    })?;
    if let Some(user) = &user {
        user.become_for_good().map_err(|error| StartError::new(NOT_ALLOWED, error))?;
    }
    check_writable(&config.state_dir)?;
    let tls = tls(sources, configured)?;
    let providers = provider::load(config.outbound.provider_replies_file.as_deref()).map_err(|error| {
        StartError::new(CONFIGURATION, format!("outbound.provider_replies_file: {error}"))
    })?;
    let queue =
        Queue::open(&config.state_dir, config.queue_options()).map_err(|error| queue_error(&error))?;
    Ok(Prepared { listeners, control, local, access, tls, queue, providers })
}

/// The user to become. Running on as root is said loudly and allowed: a laboratory in a namespace has nobody else.
fn service_user(config: &Config) -> Result<Option<ServiceUser>, StartError> {
    match &config.user {
        Some(name) if is_root() => {
            ServiceUser::find(name).map(Some).map_err(|error| StartError::new(CONFIGURATION, error))
        }
        None if is_root() => {
            let advice = "running as root: set `user` to an unprivileged user of its own";
            ::log::warn!("{}", Line::new("root").with("warning", advice));
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// The state directory is nobody else's.
const STATE_MODE: u32 = 0o700;

/// Everybody reaches the sockets in the runtime directory; who he is decides what he may.
const RUNTIME_MODE: u32 = 0o755;

/// Makes a folder of ours where it is missing. Only the folder itself is closed to others: the service user has to get
/// through those above it.
fn make_folder(folder: &Path, mode: u32, user: Option<&ServiceUser>) -> Result<(), StartError> {
    let failed = |error: io::Error| folder_error(folder, &error);
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(above).map_err(failed)?;
    }
    DirBuilder::new().mode(mode).create(folder).map_err(failed)?;
    match user {
        Some(user) => chown(folder, Some(user.uid()), Some(user.gid())).map_err(failed),
        None => Ok(()),
    }
}

/// Where mail of local programs waits while we are down. Without it they hear that they have to come again.
fn make_maildrop(directory: &Path, user: Option<&ServiceUser>) {
    let owner = user.map(|user| (user.uid(), user.gid()));
    if let Err(error) = maildrop::make(directory, owner) {
        let line = Line::new("maildrop-unusable").with("maildrop", directory.display()).with("error", error);
        let remedy = "make it: install -d -o USER -g GROUP -m 3733, with the service's user and group";
        ::log::warn!("{}", line.with("remedy", remedy));
    }
}

/// Whether this process may write the folder; asked when it has become who it stays.
fn check_writable(folder: &Path) -> Result<(), StartError> {
    let access = FileAccess::READ_OK | FileAccess::WRITE_OK | FileAccess::EXEC_OK;
    accessat(CWD, folder, access, AtFlags::EACCESS).map_err(|error| folder_error(folder, &error.into()))
}

fn folder_error(folder: &Path, error: &io::Error) -> StartError {
    let exit = match error.kind() {
        io::ErrorKind::StorageFull => TEMPORARY,
        io::ErrorKind::PermissionDenied => NOT_ALLOWED,
        _ => CONFIGURATION,
    };
    let remedy = "it must be a folder that the service's user may write";
    StartError::new(
        exit,
        format!("the folder {} (state_dir or runtime_dir): {error}: {remedy}", folder.display()),
    )
}

/// The sockets of the service manager, or our own.
fn listeners(config: &Config) -> Result<Vec<(Service, Listener)>, StartError> {
    let handed_over = activated().map_err(|error| {
        StartError::new(CONFIGURATION, format!("a socket of the service manager cannot be used: {error}"))
    })?;
    if !handed_over.is_empty() {
        return Ok(handed_over
            .into_iter()
            .map(|(name, listener)| (service(&name, &listener), listener))
            .collect());
    }
    let submission = &config.submission;
    let wanted = [
        (Service::Relay, &config.smtp.listen),
        (Service::Submission, &submission.listen),
        (Service::SubmissionTls, &submission.listen_tls),
    ];
    let wanted =
        wanted.iter().flat_map(|(service, addresses)| addresses.iter().map(|address| (*service, *address)));
    wanted
        .map(|(service, address)| {
            Listener::bind(address).map(|listener| (service, listener)).map_err(|error| listen_error(&error))
        })
        .collect()
}

/// What a socket of the service manager is for: by its name (`FileDescriptorName=`), else by its port.
fn service(name: &str, listener: &Listener) -> Service {
    match (name, listener.address().port()) {
        ("submission", _) => Service::Submission,
        ("submissions", _) => Service::SubmissionTls,
        ("smtp", _) => Service::Relay,
        (_, 587) => Service::Submission,
        (_, 465) => Service::SubmissionTls,
        _ => Service::Relay,
    }
}

fn listen_error(error: &ListenError) -> StartError {
    let exit = match error.source.kind() {
        io::ErrorKind::PermissionDenied => NOT_ALLOWED,
        io::ErrorKind::AddrInUse => TEMPORARY,
        _ => CONFIGURATION,
    };
    StartError::new(exit, error)
}

fn socket_error(path: &Path, error: &io::Error) -> StartError {
    let exit = match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::StorageFull => TEMPORARY,
        io::ErrorKind::PermissionDenied => NOT_ALLOWED,
        _ => CONFIGURATION,
    };
    StartError::new(exit, format!("the socket {}: {error}", path.display()))
}

/// What clients are shown: the configured identities, which were loaded as root, or our own, made at first start.
fn tls(sources: Sources, configured: Option<Vec<Identity>>) -> Result<Tls, StartError> {
    let wrong = |error| StartError::new(CONFIGURATION, error);
    let loaded = match configured {
        Some(loaded) => loaded,
        None => identities::load(&sources).map_err(wrong)?,
    };
    let identities = Identities::new(sources, &loaded).map_err(wrong)?;
    let server = identities.server_config(false).map_err(wrong)?;
    let asking = identities.server_config(true).map_err(wrong)?;
    Ok(Tls { server, asking, identities })
}

fn queue_error(error: &OpenError) -> StartError {
    let exit = match error {
        OpenError::Directory { .. }
        | OpenError::Newer { .. }
        | OpenError::Older { .. }
        | OpenError::Foreign { .. } => CONFIGURATION,
        OpenError::InUse { .. } | OpenError::NoSpace { .. } => TEMPORARY,
        OpenError::Missing { .. } | OpenError::Database { .. } => INTERNAL,
    };
    StartError::new(exit, error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_folder_is_closed_and_those_above_it_are_not() {
        let top = tempfile::tempdir().expect("a directory");
        let folder = top.path().join("above/state");
        make_folder(&folder, STATE_MODE, None).expect("made");
        make_folder(&folder, STATE_MODE, None).expect("there");
        check_writable(&folder).expect("ours");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_ne!(mode(&top.path().join("above")) & 0o100, 0);
        assert_ne!(mode(&top.path().join("above")) & 0o011, 0, "the service user gets through");
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named() {
        let top = tempfile::tempdir().expect("a directory");
        let file = top.path().join("file");
        std::fs::write(&file, "").expect("written");
        for folder in [file.clone(), file.join("state")] {
            let error = make_folder(&folder, STATE_MODE, None).expect_err("no folder");
            assert_eq!(error.exit, CONFIGURATION);
            assert!(error.text.starts_with(&format!("the folder {}", folder.display())), "{}", error.text);
        }
        let error = folder_error(&file, &io::ErrorKind::PermissionDenied.into());
        assert_eq!(error.exit, NOT_ALLOWED);
    }
}
