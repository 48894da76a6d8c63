//! What has come of a body and was not read yet, as the frames that it came in.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use tonic::{Status, body::Body};

use super::{EMPTY, PREFIX_BYTES, append};

/// What comes of one poll of a body.
pub(super) type Polled = Option<Result<Frame<Bytes>, Status>>;

/// Bytes in the frames that they came in.
#[derive(Clone, Debug, Default)]
pub(super) struct Frames {
    chunks: VecDeque<Bytes>,
    bytes: usize,
}

impl Frames {
    pub(super) fn push(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.bytes += data.len();
            self.chunks.push_back(data);
        }
    }

    /// What they begin with: as much of it as fits and is there.
    pub(super) fn peek<'a>(&self, head: &'a mut [u8]) -> &'a [u8] {
        let mut filled = 0;
        for chunk in &self.chunks {
            let part = chunk.len().min(head.len() - filled);
            head[filled..filled + part].copy_from_slice(&chunk[..part]);
            filled += part;
            if filled == head.len() {
                break;
            }
        }
        &head[..filled]
    }

    /// The flag (compressed or not) and the length of the message that they begin with, once both are
    /// there.
    pub(super) fn prefix(&self) -> Option<(u8, usize)> {
        let mut head = [0; PREFIX_BYTES];
        let mut head = self.peek(&mut head);
        (head.len() == PREFIX_BYTES).then(|| (head.get_u8(), head.get_u32() as usize))
    }
}

impl Buf for Frames {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "advanced past the end");
        self.bytes -= count;
        while let Some(front) = self.chunks.front_mut() {
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.chunks.pop_front();
        }
    }

    /// A slice of the first chunk, or else a copy.
    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        if let Some(front) = self.chunks.front_mut()
            && front.len() > length
        {
            self.bytes -= length;
            return front.split_to(length);
        }
        if self
            .chunks
            .front()
            .is_some_and(|front| front.len() == length)
        {
            self.bytes -= length;
            return self.chunks.pop_front().unwrap_or_default();
        }
        assert!(length <= self.bytes, "read past the end");
        let mut copy = BytesMut::with_capacity(length);
        while copy.len() < length {
            let part = self.chunk();
            let part = &part[..part.len().min(length - copy.len())];
            append(&mut copy, part);
            let copied = part.len();
            self.advance(copied);
        }
        copy.freeze()
    }
}

/// A body that was partly read.
pub(super) struct Resumed {
    first: VecDeque<Bytes>,
    next: Polled,
    rest: Body,
}

impl Resumed {
    /// One that repeats what was read, and goes on.
    pub(super) fn after(frames: Frames, next: Polled, rest: Body) -> Body {
        let first = frames.chunks;
        Body::new(Self { first, next, rest })
    }
}

impl Resumed {
    /// A body in the place of one whose message does not pass through the codec.
    pub(super) fn empty_message() -> Body {
        let mut frames = Frames::default();
        frames.push(Bytes::from_static(EMPTY));
        Self::after(frames, None, Body::empty())
    }
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Polled> {
        if let Some(first) = self.first.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(next) = self.next.take() {
            return Poll::Ready(Some(next));
        }
        Pin::new(&mut self.rest).poll_frame(context)
    }
}
