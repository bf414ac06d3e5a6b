//! The service: accepts connections within their bounds and gives each a task.
//!
//! What it does: listens, counts, spawns, and ends in order. A panic ends the session it fell in and is logged; the
//! others do not notice. What it does not: it binds nothing (see `net::Listener`) and reads no configuration.

use std::net::{IpAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_io::{Async, Timer};
use futures_lite::FutureExt;
use futures_lite::future::or;
use mta_queue::Queue;
use mta_smtp::reply::Reply;

use crate::inbound::Settings;
use crate::inbound::driver::Driver;
use crate::inbound::local::{LocalParts, LocalRates, UserLimit};
use crate::inbound::receive::Source;
use crate::log::Line;
use crate::net::{ConnectionLimit, Full, Listener, Stream};
use crate::stop::{Stop, stop};

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Mail from other servers, and from networks that may relay.
    Relay,
    /// Mail from users, with STARTTLS.
    Submission,
    /// Mail from users, with TLS from the first octet.
    SubmissionTls,
}

/// Mail coming in by SMTP.
#[derive(Debug)]
pub struct Server {
    /// For the sessions that begin now.
    settings: Mutex<Arc<Settings>>,
    queue: Queue,
    connections: ConnectionLimit,
    /// Sessions of programs on this machine.
    pub(super) users: UserLimit,
    /// What they hand in.
    rates: LocalRates,
    /// Somebody came who may have left something in the maildrop.
    poke: async_channel::Sender<()>,
    pub(super) poked: async_channel::Receiver<()>,
}

/// How long a session that is cut off has to tell its client so.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Held by each session's task; when the last is gone, so are the sessions.
pub(super) type Alive = async_channel::Sender<()>;

impl Server {
    /// A service that puts what it takes into this queue.
    pub fn new(settings: Arc<Settings>, queue: Queue) -> Arc<Self> {
        let (poke, poked) = async_channel::bounded(1);
        let (connections, users) = (ConnectionLimit::default(), UserLimit::default());
        let rates = LocalRates::default();
        Arc::new(Self { settings: Mutex::new(settings), queue, connections, users, rates, poke, poked })
    }

    /// The settings for sessions that begin now.
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The maildrop is looked into soon.
    pub(super) fn look_into_maildrop(&self) {
        // One wish of this kind is as good as many.
        let _ = self.poke.try_send(());
    }

    /// What a task of a local program's session needs of us.
    pub(super) fn clone_parts(&self) -> LocalParts {
        LocalParts { queue: self.queue.clone(), rates: self.rates.clone() }
    }

    /// From now on sessions begin with these settings; open ones keep theirs.
    pub fn reload(&self, settings: Arc<Settings>) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.connections.open()
    }

    /// Serves until the signal to stop; then takes no more connections, answers open sessions 421 as soon as no
    /// message is cut short by it, and returns when all are gone, at the latest after `grace`.
    pub async fn run(
        self: Arc<Self>,
        listeners: Vec<(Service, Listener)>,
        local: Option<UnixListener>,
        stop: Stop,
        grace: Duration,
    ) {
        let (alive, all_gone) = async_channel::bounded(1);
        let (cut, cut_off) = self::stop();
        let stops = (stop.clone(), cut_off.clone());
        let local = local.map(|listener| {
            let accepting = Arc::clone(&self).accept_local(listener, stops.clone(), alive.clone());
            (smol::spawn(accepting), smol::spawn(Arc::clone(&self).pick_up(stops, alive.clone())))
        });
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|listener| {
                smol::spawn(Arc::clone(&self).accept(listener, stop.clone(), cut_off.clone(), alive.clone()))
            })
            .collect();
        stop.wait().await;
        for task in accepting {
            task.cancel().await;
        }
        if let Some((accepting, picking_up)) = local {
            accepting.cancel().await;
            picking_up.cancel().await;
        }
        drop(alive);
        all_gone_within(&all_gone, grace).await;
        if self.open_sessions() > 0 {
            ::log::warn!("{}", Line::new("sessions-cut").with("sessions", self.open_sessions()));
        }
        cut.fire();
        all_gone_within(&all_gone, LAST_WORD).await;
    }

    /// Accepts from one listener until the task is cancelled.
    async fn accept(
        self: Arc<Self>,
        (service, listener): (Service, Listener),
        stop: Stop,
        cut_off: Stop,
        alive: Alive,
    ) {
        loop {
            let (stream, peer) = listener.accept().await;
            let settings = self.settings();
            let (client, options) = (peer.ip(), &settings.options);
            let permit = match self.connections.acquire(client, options.sessions, options.sessions_per_client)
            {
                Ok(permit) => permit,
                Err(full) => {
                    turn_away(&stream, client, full);
                    continue;
                }
            };
            let stops = (stop.clone(), cut_off.clone());
            let source = Source::network(client, settings.may_relay(client));
            let driver = Driver::new(Stream::Plain(stream), source, settings, self.queue.clone(), stops);
            let driver = driver.serving(service);
            // Boxed, because each layer around a future makes another copy of it.
            let session = Box::pin(driver.run());
            let (cut_off, alive) = (cut_off.clone(), alive.clone());
            smol::spawn(async move {
                let cut = async {
                    cut_off.wait().await;
                    Timer::after(LAST_WORD).await;
                    Ok(())
                };
                serve(or(session, cut), &client).await;
                drop((permit, alive));
            })
            .detach();
        }
    }
}

/// Waits until the last session has ended, for so long at most. Nothing is ever sent: the channel ends when the last
/// session has dropped its end.
async fn all_gone_within(all_gone: &async_channel::Receiver<()>, time: Duration) {
    let gone = async {
        let _ = all_gone.recv().await;
    };
    let late = async {
        Timer::after(time).await;
    };
    or(gone, late).await;
}

/// Runs a session and keeps what goes wrong in it to it.
pub(super) async fn serve(
    session: impl Future<Output = std::io::Result<()>>,
    client: &impl std::fmt::Display,
) {
    match AssertUnwindSafe(session).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            ::log::debug!("{}", Line::new("disconnected").with("client", client).with("reason", error))
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let reason = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let line = Line::new("session-panicked").with("client", client);
            ::log::error!("{}", line.with("reason", reason.unwrap_or("unknown")));
        }
    }
}

/// Tells a client that is one too many, without waiting for anything, and lets it go.
fn turn_away(stream: &Async<TcpStream>, client: IpAddr, full: Full) {
    let text = match full {
        Full::Total => "too many connections, try again later",
        Full::Client => "too many connections from your address",
    };
    let reply = turned_away(text);
    // A new connection has room for one line. If not, the client sees it closed, which says the same.
    let _ = std::io::Write::write(&mut stream.get_ref(), &reply.to_bytes());
    ::log::info!("{}", Line::new("connection-refused").with("client", client).with("reply", reply));
}

/// The reply to one that is too many.
pub(super) fn turned_away(text: &str) -> Reply {
    Reply::with_status(421, (4, 7, 0), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_session_stays_there() {
        smol::block_on(serve(async { panic!("a defect, made for this test") }, &"192.0.2.1"));
    }
}
