//! Content, streamed in and out.

use std::io::{self, Read, Write};

/// Takes the content of one message while it arrives. Memory is bounded: what is larger than
/// `Options::inline_bytes` goes to a file in the state directory that has no name until `finish`.
///
/// Writes block on the disk; call from a thread that may. Dropped before `finish`, it leaves nothing behind.
#[derive(Debug)]
pub struct ContentWriter {}

impl ContentWriter {
    /// Octets written so far.
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }

    /// The content is complete. Large content is on stable storage when this returns; blocks for it.
    ///
    /// # Errors
    /// What the disk reports; `StorageFull` where it is full.
    pub fn finish(self) -> io::Result<Content> {
        todo!()
    }
}

impl Write for ContentWriter {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        todo!()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Complete content that no message refers to yet. Dropped without being accepted, it is deleted.
#[derive(Debug)]
pub struct Content {}

impl Content {
    /// Its size in octets.
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }

    /// Reads it from the start, before it is accepted (header checks, signatures).
    ///
    /// # Errors
    /// What the disk reports.
    pub fn open(&self) -> io::Result<ContentReader> {
        todo!()
    }
}

/// Reads stored content from its first octet. Blocks on the disk.
#[derive(Debug)]
pub struct ContentReader {}

impl ContentReader {
    /// The size of the whole content in octets.
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }
}

impl Read for ContentReader {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        todo!()
    }
}
