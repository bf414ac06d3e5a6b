//! Mail that this server writes itself: notifications, digests, reports. It is signed like any other of our domains.

use std::io::{self, Write};

use mta_queue::{Content, ContentWriter};

use crate::auth::body::BodyDigest;
use crate::auth::dkim::KeyRing;
use crate::content::header::Splitter;

/// The largest header section we write.
const MAX_HEADER_OCTETS: usize = 64 << 10;

/// Takes the content of one message of ours as it is written.
pub(crate) struct OwnContent<'a> {
    body: ContentWriter,
    header: Splitter,
    digest: BodyDigest,
    keys: Option<&'a KeyRing>,
}

impl<'a> OwnContent<'a> {
    /// Into the queue's writer, signed with these keys.
    pub(crate) fn new(body: ContentWriter, keys: Option<&'a KeyRing>) -> Self {
        let digest = BodyDigest::new(keys.is_some_and(|keys| !keys.signing().is_empty()), false);
        Self { body, header: Splitter::new(MAX_HEADER_OCTETS), digest, keys }
    }

    /// The content is complete. Signs, and blocks as `ContentWriter::finish` does.
    ///
    /// # Errors
    /// What the disk reports.
    pub(crate) fn finish(self) -> io::Result<Content> {
        let mut header = self.header.finish();
        if let (Some(keys), Some(hash)) = (self.keys, self.digest.finish().relaxed) {
            header.prepend(&keys.sign_here(&header, &hash));
        }
        self.body.finish_behind(header.into_front())
    }
}

impl Write for OwnContent<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let of_body =
            self.header.take(octets).map_err(|_| io::Error::other("a header section of ours is too long"))?;
        self.digest.update(of_body);
        self.body.write_all(of_body)?;
        Ok(octets.len())
    }

    /// Does nothing: what is not finished need not survive.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
