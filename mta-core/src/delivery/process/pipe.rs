//! A command that gets the message on its standard input, run as the user.
//!
//! Its exit status is read as sysexits(3) has it: 0 is delivered, 75 and whatever says nothing about the message waits,
//! everything else fails. What it does not: it keeps no output but the first line for the record.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::child::Letter;
use super::mbox::envelope_line;
use super::protocol::Answer;
use crate::delivery::copy::copy_local;

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The pause between two looks whether it has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// What is kept of its output, octets.
const OUTPUT: usize = 2048;

/// How long what a command has said is waited for once it has ended.
const OUTPUT_WAIT: Duration = Duration::from_secs(1);

/// Runs `command` by the shell.
pub(super) fn run(
    command: &str,
    home: &Path,
    user: &str,
    letter: &Letter<'_>,
    content: &mut dyn Read,
) -> Result<Answer, Answer> {
    let failed =
        |what: &str, error: io::Error| Answer::deferred((3, 0), format!("|{command}: {what}: {error}"));
    // A home that is not there (or not yet mounted) is no reason not to run.
    let folder = if home.is_dir() { home } else { Path::new("/") };
    // One pipe for both, read beside the command: one that says much would wait for us.
    let (output, out) = io::pipe().map_err(|error| failed("no pipe", error))?;
    let err = out.try_clone().map_err(|error| failed("no pipe", error))?;
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("SHELL", "/bin/sh")
        .env("HOME", home)
        .env("USER", user)
        .env("LOGNAME", user)
        .env("SENDER", plain(letter.reverse_path.trim_matches(['<', '>'])))
        .env("RECIPIENT", plain(letter.recipient))
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(|error| failed("cannot be started", error))?;
    let said = listen(output);
    let until = Instant::now() + TIMEOUT;
    let fed = feed_until(until, &mut child, letter, content);
    if let Err(Fed::Content(error)) = fed {
        stop(&mut child);
        return Err(failed("the content did not come whole", error));
    }
    let status = wait(&mut child, until).map_err(|error| failed("its end", error))?;
    let said = collect(&said);
    let said = String::from_utf8_lossy(&said);
    Ok(answer(command, status, said.lines().next().unwrap_or_default()))
}

/// Reads what a command says, on a thread of its own: the first octets are handed on as they come, the rest is thrown
/// away.
fn listen(mut output: io::PipeReader) -> Receiver<Vec<u8>> {
    let (tell, said) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut left, mut buffer) = (OUTPUT, [0; OUTPUT]);
        while let Some(room) = buffer.get_mut(..left).filter(|room| !room.is_empty())
            && let Ok(count @ 1..) = output.read(room)
        {
            let _ = tell.send(room.get(..count).unwrap_or_default().to_owned());
            left = left.saturating_sub(count);
        }
        drop(tell);
        let _ = io::copy(&mut output, &mut io::sink());
    });
    said
}

/// What an ended command has said. A process that it left behind, in a session of its own, may hold the output open for
/// ever, so the end of it is not waited for.
fn collect(said: &Receiver<Vec<u8>>) -> Vec<u8> {
    let until = Instant::now() + OUTPUT_WAIT;
    let mut text = Vec::new();
    while let Ok(part) = said.recv_timeout(until.saturating_duration_since(Instant::now())) {
        text.extend_from_slice(&part);
    }
    text
}

/// Why a command did not get all of the message.
enum Fed {
    Content(io::Error),
    /// It does not want it; its exit status says more.
    Command,
}

/// Hands the message over. A command that neither reads nor ends is killed when its time is over.
fn feed_until(
    until: Instant,
    child: &mut Child,
    letter: &Letter<'_>,
    content: &mut dyn Read,
) -> Result<(), Fed> {
    let pid = child.id();
    let (done, is_done) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let left = until.saturating_duration_since(Instant::now());
        if is_done.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            stop_group(pid);
        }
    });
    let fed = feed(child, letter, content);
    // Before the command is waited for: its number stays its own until then.
    drop(done);
    let _ = watch.join();
    fed
}

fn feed(child: &mut Child, letter: &Letter<'_>, content: &mut dyn Read) -> Result<(), Fed> {
    let Some(mut input) = child.stdin.take() else { return Err(Fed::Command) };
    let mut failed = None;
    let mut tagged = Tagged { inner: content, failed: &mut failed };
    let head = format!("{}{}", envelope_line(letter), letter.trace());
    let written = copy_local(&mut tagged, head.as_bytes(), &mut input).and_then(|_| input.flush());
    match (failed, written) {
        (Some(error), _) => Err(Fed::Content(error)),
        (None, Ok(())) => Ok(()),
        (None, Err(_)) => {
            // The rest is read all the same: only then the message is known to be whole.
            io::copy(content, &mut io::sink()).map_err(Fed::Content)?;
            Err(Fed::Command)
        }
    }
}

struct Tagged<'a> {
    inner: &'a mut dyn Read,
    failed: &'a mut Option<io::Error>,
}

impl Read for Tagged<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        if let Err(error) = &read
            && error.kind() != io::ErrorKind::Interrupted
        {
            *self.failed = Some(io::Error::new(error.kind(), error.to_string()));
        }
        read
    }
}

/// Its exit status; nothing where it took too long and was killed.
fn wait(child: &mut Child, until: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            // What it started and left behind goes with it.
            stop_group(child.id());
            let too_long = status.signal().is_some() && Instant::now() > until;
            return Ok(Some(status).filter(|_| !too_long));
        }
        if Instant::now() > until {
            stop(child);
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

fn stop(child: &mut Child) {
    stop_group(child.id());
    let _ = child.wait();
}

fn stop_group(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

fn answer(command: &str, status: Option<ExitStatus>, said: &str) -> Answer {
    let said = crate::log::visible(said);
    let text = |what: String| match said.is_empty() {
        true => format!("|{command}: {what}"),
        false => format!("|{command}: {what}: {said}"),
    };
    let Some(status) = status else {
        return Answer::deferred((3, 0), text(format!("no end within {} s", TIMEOUT.as_secs())));
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => Answer::Delivered(format!("delivered to |{command}")),
        // EX_NOUSER, EX_NOHOST, EX_DATAERR, EX_UNAVAILABLE, EX_NOPERM and the like; also what is no sysexit.
        (Some(67), _) => Answer::failed((1, 1), text("no such user".to_owned())),
        (Some(code @ (65 | 66 | 68 | 69 | 76 | 77)), _) => {
            Answer::failed((3, 0), text(format!("exit status {code}")))
        }
        (Some(code @ (1..=63)), _) => Answer::failed((3, 0), text(format!("exit status {code}"))),
        (Some(code), _) => Answer::deferred((3, 0), text(format!("exit status {code}"))),
        (None, signal) => Answer::deferred((3, 0), text(format!("killed by signal {}", signal.unwrap_or(0)))),
    }
}

/// Text for the environment: nothing that a shell script could trip over but what an address is made of.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || "@._+-=".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTER: Letter<'_> = Letter {
        unique: "abc-1",
        reverse_path: "<s$(id)@else.example>",
        recipient: "anna@own.example",
        received_at: 1_700_000_000,
        hostname: "mx.example",
    };

    #[test]
    fn exit_statuses_are_sysexits() {
        let home = tempfile::tempdir().unwrap();
        for (command, expected) in [
            ("cat > got", "Delivered"),
            ("exit 0", "Delivered"),
            ("cat; exit 75", "Deferred"),
            ("exit 67", "Failed"),
            ("echo no room >&2; exit 1", "Failed"),
            ("/nonexistent/program", "Deferred"),
            ("kill -9 $$", "Deferred"),
        ] {
            let content = b"Subject: x\r\n\r\nbody\r\n".repeat(10_000);
            let answer = run(command, home.path(), "anna", &LETTER, &mut &content[..]);
            let shown = format!("{:?}", answer.unwrap_or_else(|refused| refused));
            assert!(shown.starts_with(expected), "{command}: {shown}");
            assert_eq!(shown.contains("no room"), command.contains("no room"), "{shown}");
        }
        let got = std::fs::read_to_string(home.path().join("got")).unwrap();
        assert!(got.starts_with("From s$(id)@else.example Tue Nov 14 22:13:20 2023\nReturn-Path:"), "{got}");
        assert_eq!(plain("s$(id)@else.example"), "s__id_@else.example");
    }

    #[test]
    fn what_a_command_leaves_behind_is_not_waited_for() {
        let home = tempfile::tempdir().unwrap();
        // It lives on for a minute and holds the output open.
        let command = "setsid sh -c 'echo $$ > left; sleep 60; : > ended' & cat >/dev/null; echo no room; \
                       until [ -s left ]; do sleep 0.05; done; exit 75";
        let answer = run(command, home.path(), "anna", &LETTER, &mut &b"Subject: x\r\n\r\n"[..]);
        assert!(!home.path().join("ended").exists(), "its end was waited for");
        let left = std::fs::read_to_string(home.path().join("left")).unwrap();
        stop_group(left.trim().parse().unwrap());
        match answer {
            Ok(Answer::Deferred { text, .. }) => assert!(text.contains("no room"), "{text}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_command_that_does_not_read_is_ended() {
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep")
            .arg("3600")
            .current_dir(home.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // More than a pipe holds, and no time left.
        let content = b"Subject: x\r\n\r\nbody\r\n".repeat(100_000);
        let until = Instant::now();
        assert!(matches!(feed_until(until, &mut child, &LETTER, &mut &content[..]), Err(Fed::Command)));
        assert!(matches!(wait(&mut child, until), Ok(None)));
    }
}
