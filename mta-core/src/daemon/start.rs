//! The stages before anything runs: directories, ports, keys, then giving up root, then the queue.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use mta_queue::{OpenError, Queue};
use rustls::ServerConfig;

use super::{CONFIGURATION, INTERNAL, NOT_ALLOWED, StartError, TEMPORARY};
use crate::config::Config;
use crate::control::{self, Access};
use crate::log::Line;
use crate::net::{ListenError, Listener, activated};
use crate::privilege::{ServiceUser, is_root};
use crate::tls::server::Identity;

/// Everything that had to be had before the first task.
pub(super) struct Prepared {
    pub(super) listeners: Vec<Listener>,
    pub(super) control: UnixListener,
    pub(super) access: Access,
    pub(super) tls: Tls,
    pub(super) queue: Queue,
}

/// What clients are shown.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) server: Arc<ServerConfig>,
    /// The record to publish, as `3 1 1 HEX`.
    pub(super) tlsa: String,
}

/// Runs the stages in order. Afterwards the process is no longer root.
pub(super) fn prepare(config: &Config) -> Result<Prepared, StartError> {
    let user = service_user(config)?;
    let access = Access::find(config.user.as_deref(), config.admin_group.as_deref())
        .map_err(|error| StartError::new(CONFIGURATION, error))?;
    for folder in [Some(&config.state_dir), config.runtime_dir.as_ref()].into_iter().flatten() {
        make_folder(folder, user.as_ref())?;
    }
    let listeners = listeners(config)?;
    let socket = config.control_socket();
    let control = control::bind(&socket, &access).map_err(|error| control_error(&socket, &error))?;
    // A configured key may be readable by root alone. The own one is made and read as the service user, so that
    // nothing in a folder that user can write is ever touched by root.
    let configured = configured_identity(config)?;
    if let Some(user) = &user {
        user.become_for_good().map_err(|error| StartError::new(NOT_ALLOWED, error))?;
    }
    let tls = tls(config, configured)?;
    let queue =
        Queue::open(&config.state_dir, config.queue_options()).map_err(|error| queue_error(&error))?;
    Ok(Prepared { listeners, control, access, tls, queue })
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

fn make_folder(folder: &Path, user: Option<&ServiceUser>) -> Result<(), StartError> {
    let failed = |error: io::Error| {
        let exit = if error.kind() == io::ErrorKind::StorageFull { TEMPORARY } else { CONFIGURATION };
        let remedy = "it must be a folder that the service's user may write";
        StartError::new(exit, format!("state_dir {}: {error}: {remedy}", folder.display()))
    };
    let is_new = !folder.exists();
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    if let (true, Some(user)) = (is_new, user) {
        chown(folder, Some(user.uid()), Some(user.gid())).map_err(failed)?;
    }
    Ok(())
}

/// The sockets of the service manager, or our own.
fn listeners(config: &Config) -> Result<Vec<Listener>, StartError> {
    let handed_over = activated().map_err(|error| {
        StartError::new(CONFIGURATION, format!("a socket of the service manager cannot be used: {error}"))
    })?;
    if !handed_over.is_empty() {
        return Ok(handed_over.into_iter().map(|(_, listener)| listener).collect());
    }
    config
        .smtp
        .listen
        .iter()
        .map(|&address| Listener::bind(address).map_err(|error| listen_error(&error)))
        .collect()
}

fn listen_error(error: &ListenError) -> StartError {
    let exit = match error.source.kind() {
        io::ErrorKind::PermissionDenied => NOT_ALLOWED,
        io::ErrorKind::AddrInUse => TEMPORARY,
        _ => CONFIGURATION,
    };
    StartError::new(exit, error)
}

fn control_error(path: &Path, error: &io::Error) -> StartError {
    let exit = match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::StorageFull => TEMPORARY,
        io::ErrorKind::PermissionDenied => NOT_ALLOWED,
        _ => CONFIGURATION,
    };
    StartError::new(exit, format!("control socket {}: {error}", path.display()))
}

/// The certificate and key of the configuration, where it names them.
pub(super) fn configured_identity(config: &Config) -> Result<Option<Identity>, StartError> {
    let (Some(certificate), Some(key)) = (&config.tls.certificate_file, &config.tls.key_file) else {
        return Ok(None);
    };
    Identity::load(certificate, key).map(Some).map_err(|error| StartError::new(CONFIGURATION, error))
}

/// What clients are shown: the configured identity, or our own, made at first start.
pub(super) fn tls(config: &Config, configured: Option<Identity>) -> Result<Tls, StartError> {
    let identity = configured
        .map_or_else(|| Identity::load_or_make(&config.state_dir, &config.host_domain()), Ok)
        .map_err(|error| StartError::new(CONFIGURATION, error))?;
    let server = identity.server_config().map_err(|error| StartError::new(CONFIGURATION, error))?;
    Ok(Tls { server, tlsa: identity.tlsa_record().to_string() })
}

fn queue_error(error: &OpenError) -> StartError {
    let exit = match error {
        OpenError::Directory { .. } | OpenError::Newer { .. } | OpenError::Foreign { .. } => CONFIGURATION,
        OpenError::InUse { .. } | OpenError::NoSpace { .. } => TEMPORARY,
        OpenError::Missing { .. } | OpenError::Database { .. } => INTERNAL,
    };
    StartError::new(exit, error)
}
