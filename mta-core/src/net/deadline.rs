//! Deadlines. Only a plain read is raced against a timer and tried again; a write that misses its deadline ends the
//! connection, because nobody knows how much of it went out.

use std::io;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future::or;
use futures_lite::{AsyncWrite, AsyncWriteExt};

/// Runs `work` for at most this long. What it was doing is dropped then: the connection is not to be used again.
///
/// # Errors
/// `TimedOut`, or what `work` fails with.
pub async fn within<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        Timer::after(time).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    or(work, late).await
}

/// Writes and flushes all of `bytes` within this time.
///
/// # Errors
/// `TimedOut`, or what the stream reports; in both cases the connection is to be dropped.
pub async fn write_all(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    time: Duration,
) -> io::Result<()> {
    within(time, async {
        stream.write_all(bytes).await?;
        stream.flush().await
    })
    .await
}
