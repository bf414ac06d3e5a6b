//! The wish to stop, heard by every task that asks for it.
//!
//! What it does: one side fires once, any number of listeners wake. What it does not: it ends nothing by force; each
//! task stops where stopping harms nothing.

use std::convert::Infallible;

/// Fires when it is dropped or told to.
#[derive(Debug)]
pub struct Stopper {
    /// Closing the channel is the signal; nothing is ever sent.
    sender: async_channel::Sender<Infallible>,
}

/// Hears when to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop {
    receiver: async_channel::Receiver<Infallible>,
}

/// A signal and its listener.
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = async_channel::bounded(1);
    (Stopper { sender }, Stop { receiver })
}

impl Stopper {
    /// Tells all listeners to stop. Calling it again does nothing.
    pub fn fire(&self) {
        self.sender.close();
    }
}

impl Stop {
    /// Returns once the signal was given; at once if it was given before.
    pub async fn wait(&self) {
        // Nothing can be received, so this ends only by the closing.
        let _ = self.receiver.recv().await;
    }

    /// Whether the signal was given.
    pub fn is_fired(&self) -> bool {
        self.receiver.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_listeners_wake() {
        let (stopper, stop) = stop();
        let other = stop.clone();
        assert!(!other.is_fired());
        stopper.fire();
        smol::block_on(async { futures_lite::future::zip(stop.wait(), other.wait()).await });
        assert!(stop.is_fired());
    }

    #[test]
    fn a_lost_stopper_stops() {
        let (stopper, stop) = stop();
        drop(stopper);
        smol::block_on(stop.wait());
    }
}
