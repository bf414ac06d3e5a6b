//! Several futures under way at once, taken as they end. For a handful: each wake-up polls all of them.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Futures of one kind. Dropping it cancels them.
pub(super) struct Pending<'a, T>(Vec<Pin<Box<dyn Future<Output = T> + Send + 'a>>>);

impl<'a, T> Pending<'a, T> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn push(&mut self, future: impl Future<Output = T> + Send + 'a) {
        self.0.push(Box::pin(future));
    }

    /// The result of the next one that ends; `None` where none is under way.
    pub(super) async fn next(&mut self) -> Option<T> {
        if self.0.is_empty() {
            return None;
        }
        poll_fn(|cx| {
            for i in 0..self.0.len() {
                if let Some(Poll::Ready(done)) = self.0.get_mut(i).map(|f| f.as_mut().poll(cx)) {
                    drop(self.0.swap_remove(i));
                    return Poll::Ready(Some(done));
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_first_comes_first() {
        smol::block_on(async {
            let (sender, receiver) = async_channel::bounded::<()>(1);
            let mut pending = Pending::new();
            pending.push(async move {
                let _ = receiver.recv().await;
                1
            });
            pending.push(async { 2 });
            assert_eq!(pending.next().await, Some(2));
            drop(sender);
            assert_eq!(pending.next().await, Some(1));
            assert_eq!(pending.next().await, None);
        });
    }
}
