//! The end of a child: waited for, and brought about where it does not come in time.

use std::io;
use std::os::fd::AsFd;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The pause between two looks, where the system cannot tell of the end.
const PAUSE: Duration = Duration::from_millis(20);

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By itself.
    Own,
    /// Killed: its time was over.
    Killed,
}

/// Waits for the end of a child, and kills it at the deadline: its user can stop it, or have it wait for him, for as long
/// as he likes. Blocking.
///
/// # Errors
/// It cannot be killed, and is left alone; what the system says.
pub(super) fn end_of(child: &mut Child, deadline: Instant) -> io::Result<End> {
    // Not on systems before Linux 5.3.
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let handle = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    loop {
        if child.try_wait()?.is_some() {
            return Ok(End::Own);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match &handle {
            Some(handle) => {
                let mut fds = [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
                // Whatever it says, the child itself is asked next.
                let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
            }
            None => std::thread::sleep(PAUSE.min(left)),
        }
    }
    child.kill()?;
    child.wait()?;
    Ok(End::Killed)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn an_end_is_seen_or_made() {
        let later = Instant::now() + Duration::from_secs(3600);
        assert_eq!(end_of(&mut Command::new("true").spawn().unwrap(), later).unwrap(), End::Own);
        let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
        assert_eq!(end_of(&mut child, Instant::now()).unwrap(), End::Killed);
        // Stopped, as its user may do it: it reads nothing and ends by no request.
        let mut child =
            Command::new("sh").args(["-c", "kill -STOP $$"]).stdin(Stdio::null()).spawn().unwrap();
        let soon = Instant::now() + Duration::from_millis(50);
        assert_eq!(end_of(&mut child, soon).unwrap(), End::Killed);
    }
}
