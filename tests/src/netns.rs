//! A network of our own: a Linux network namespace with nothing but loopback, in which ports 25 and 53 are free.
//!
//! No privilege is needed where the system lets users make user namespaces; root needs none. Entering happens in the
//! calling process and must come before any thread is started. Where it is not to be had the laboratory uses high
//! ports, and says so.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getgid, getuid};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// Set in processes that were started inside a namespace of the laboratory.
const MARK: &str = "MTA_LAB_NAMESPACE";

/// Whether this process was started inside a namespace of the laboratory.
pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Moves this process into a network namespace of its own, with loopback up and every port free to bind.
///
/// # Errors
///
/// In words, why the system does not let us.
pub fn enter() -> Result<(), String> {
    let (uid, gid) = (getuid(), getgid());
    let as_root = uid.is_root() && unshare(CloneFlags::CLONE_NEWNET).is_ok();
    if !as_root {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("no user and network namespace: {error}"))?;
        let write = |file: &str, text: String| {
            fs::write(file, text).map_err(|error| format!("cannot write {file}: {error}"))
        };
        write("/proc/self/setgroups", "deny".to_owned())?;
        write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
        write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
    }
    raise_loopback().map_err(|error| format!("cannot raise the loopback interface: {error}"))?;
    // Children that are not root bind ports 25 and 53 too. Without it the laboratory's own servers still can.
    drop(fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"));
    Ok(())
}

/// Replaces this process by a command inside a new namespace.
///
/// # Errors
///
/// Only returns when something failed.
pub fn run_inside(command: &[String]) -> Result<(), String> {
    enter()?;
    exec(command)
}

/// Replaces this process by a command inside the namespace that another process lives in.
///
/// # Errors
///
/// Only returns when something failed.
pub fn join(pid: u32, command: &[String]) -> Result<(), String> {
    let open = |kind: &str| {
        let path = format!("/proc/{pid}/ns/{kind}");
        fs::File::open(&path).map_err(|error| format!("cannot open {path}: {error}"))
    };
    let same = |kind: &str| {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        theirs.ok() == fs::read_link(format!("/proc/self/ns/{kind}")).ok()
    };
    for (kind, flag) in [("user", CloneFlags::CLONE_NEWUSER), ("net", CloneFlags::CLONE_NEWNET)] {
        if !same(kind) {
            setns(open(kind)?.as_fd(), flag)
                .map_err(|error| format!("cannot join its {kind} namespace: {error}"))?;
        }
    }
    exec(command)
}

/// A command that runs a program inside a namespace of its own, by the laboratory's binary at `lab`.
pub fn command_inside(lab: &Path, program: &Path) -> Command {
    let mut command = Command::new(lab);
    command.arg("inside").arg(program);
    command
}

fn exec(command: &[String]) -> Result<(), String> {
    let [program, arguments @ ..] = command else { return Err("no command given".to_owned()) };
    let error = Command::new(program).args(arguments).env(MARK, "1").exec();
    Err(format!("cannot run {program}: {error}"))
}

/// Sets the loopback interface up by one netlink message (RTM_NEWLINK, see rtnetlink(7)).
fn raise_loopback() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_WITH_ACK: u16 = 1 | 4;
    const LOOPBACK_INDEX: u32 = 1;
    const IFF_UP: u32 = 1;
    const NLMSG_ERROR: u16 = 2;

    let mut message = Vec::new();
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_WITH_ACK.to_ne_bytes());
    message.extend([0; 8]); // sequence number and port id
    message.extend([0; 4]); // family, padding, device type
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes()); // the flags
    message.extend(IFF_UP.to_ne_bytes()); // which of them change
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut reply = [0_u8; 512];
    let (length, _) = recv(&socket, &mut reply[..], RecvFlags::empty())?;
    let kind = u16::from_ne_bytes([reply[4], reply[5]]);
    let code = i32::from_ne_bytes([reply[16], reply[17], reply[18], reply[19]]);
    if length >= 20 && kind == NLMSG_ERROR && code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(-code))
    }
}
