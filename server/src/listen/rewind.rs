//! A connection whose first bytes were looked at, and are read again.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As many bytes as are looked at: the preface of HTTP/2.
pub(super) const HEAD: usize = 24;

/// See the module.
#[derive(Debug)]
pub(super) struct Rewind<IO> {
    head: [u8; HEAD],
    from: usize,
    to: usize,
    io: IO,
}

impl<IO> Rewind<IO> {
    /// `head` will be read before `io`. It has at most [`HEAD`] bytes.
    pub(super) fn new(head: &[u8], io: IO) -> Self {
        let mut copy = [0; HEAD];
        copy[..head.len()].copy_from_slice(head);
        Self {
            head: copy,
            from: 0,
            to: head.len(),
            io,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Rewind<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.from == self.to {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let count = buffer.remaining().min(self.to - self.from);
        buffer.put_slice(&self.head[self.from..self.from + count]);
        self.from += count;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Rewind<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
