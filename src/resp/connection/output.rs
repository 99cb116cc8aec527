//! Bytes on their way to a socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::KEPT;

/// A request of this size is written from its own buffer when it has the socket for itself.
const LARGE: usize = 16 * 1024;

/// Bytes to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: BytesMut,
    /// Written before `bytes`: a large request that had the socket for itself.
    large: Bytes,
    /// How many bytes the stream has taken.
    pub(super) written: u64,
    flushing: bool,
}

impl Output {
    pub(super) fn len(&self) -> usize {
        self.large.len() + self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes there will have been once all are written.
    pub(super) fn end(&self) -> u64 {
        self.written + self.len() as u64
    }

    pub(super) fn append(&mut self, bytes: Bytes) {
        if bytes.len() >= LARGE && self.is_empty() {
            self.large = bytes;
        } else {
            self.bytes.extend_from_slice(&bytes);
        }
    }

    /// Writes until all is written or the stream takes no more.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let next: &[u8] = if self.large.is_empty() {
                &self.bytes
            } else {
                &self.large
            };
            let count = ready!(Pin::new(&mut *stream).poll_write(context, next))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count as u64;
            self.flushing = true;
            if self.large.is_empty() {
                self.bytes.advance(count);
            } else {
                self.large.advance(count);
            }
        }
        if self.flushing {
            self.large = Bytes::new();
            if self.bytes.capacity() > KEPT {
                self.bytes = BytesMut::new();
            }
            ready!(Pin::new(stream).poll_flush(context))?;
            self.flushing = false;
        }
        Poll::Ready(Ok(()))
    }
}
