//! Bodies for tests.

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::Frame;
use tonic::{Status, body::Body};

use super::{Rope, frames::Polled};
use crate::v1::EncodeRequest;

/// A body of these frames.
pub(super) struct Sent(pub(super) VecDeque<Result<Frame<Bytes>, Status>>);

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Polled> {
        Poll::Ready(self.0.pop_front())
    }
}

/// Nothing here waits for anything.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("pending"),
    }
}

pub(super) fn encoded(message: &EncodeRequest) -> Vec<u8> {
    let rope = Rope::new(message.clone()).unwrap();
    rope.pieces().flat_map(|piece| piece.to_vec()).collect()
}

/// A body that brings `bytes`, cut at `cuts`, and ends with `end`.
pub(super) fn body(bytes: &[u8], cuts: &[usize], end: Polled) -> Body {
    let mut frames = VecDeque::new();
    let mut rest = bytes;
    for cut in cuts {
        let (one, behind) = rest.split_at(*cut % (rest.len() + 1));
        frames.push_back(Ok(Frame::data(Bytes::copy_from_slice(one))));
        rest = behind;
    }
    frames.push_back(Ok(Frame::data(Bytes::copy_from_slice(rest))));
    frames.extend(end);
    Body::new(Sent(frames))
}

pub(super) fn message(payloads: &[usize]) -> EncodeRequest {
    EncodeRequest {
        meta_version: 1,
        model: "vae".into(),
        payloads: payloads.iter().map(|&n| vec![7; n].into()).collect(),
        ..EncodeRequest::default()
    }
}
