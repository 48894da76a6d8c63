//! Receiving: a message is decoded from the frames that it came in, and payloads that lie in one
//! frame stay there.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body};

use super::{Laden, PREFIX_BYTES, append};
use crate::{limits, screen::few};

/// An empty message, prefix included.
const EMPTY: &[u8] = &[0; PREFIX_BYTES];

/// What comes of one poll of a body.
type Polled = Option<Result<Frame<Bytes>, Status>>;

/// What [`gather`] made of a body.
pub(super) struct Gathered<M> {
    /// The message, if the body was one and nothing else.
    pub(super) message: Option<M>,
    /// A body with an empty message in the place of that one; otherwise one that repeats what was read
    /// and goes on, for the codec to make of it what it will.
    pub(super) body: Body,
    /// Why the body can be no message, in words; a codec would blame itself.
    pub(super) broken: Option<String>,
}

/// Reads a body to its end.
pub(super) async fn gather<M: Laden>(mut body: Body) -> Gathered<M> {
    let mut frames = Frames::default();
    let (next, odd) = loop {
        let polled = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        match polled.map(|result| result.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => {
                if frames.push(data).is_err() {
                    break (None, true);
                }
            }
            Some(Ok(Err(trailers))) => break (Some(Ok(trailers)), false),
            Some(Err(error)) => break (Some(Err(error)), true),
            None => break (None, false),
        }
    };
    let message = if frames.are_whole() && !odd {
        // A copy of handles, because the codec must see them again if this fails.
        let mut rope = frames.clone();
        rope.advance(PREFIX_BYTES);
        let few = few(M::FIELD, rope.clone());
        few.ok().and_then(|()| M::decode(rope).ok())
    } else {
        None
    };
    let broken = match next {
        Some(Err(_)) => None,
        _ => frames.broken(),
    };
    if message.is_some() {
        frames.chunks = [Bytes::from_static(EMPTY)].into();
    }
    let resumed = Resumed {
        first: frames.chunks,
        next,
        rest: body,
    };
    Gathered {
        message,
        body: Body::new(resumed),
        broken,
    }
}

/// A message as far as it has come, prefix included.
#[derive(Clone, Default)]
struct Frames {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// What the prefix says, once it is there.
    expected: Option<usize>,
}

/// Nothing that is read here: compressed, too long, or several messages.
struct Odd;

impl Frames {
    fn push(&mut self, data: Bytes) -> Result<(), Odd> {
        if data.is_empty() {
            return Ok(());
        }
        self.bytes += data.len();
        // Kept even where it is odd: whoever reads on must see it.
        self.chunks.push_back(data);
        if self.expected.is_none() && self.bytes >= PREFIX_BYTES {
            let mut prefix = self.clone();
            let (flag, length) = (prefix.get_u8(), prefix.get_u32() as usize);
            if flag != 0 || length > limits::MAX_MESSAGE_BYTES {
                return Err(Odd);
            }
            self.expected = Some(PREFIX_BYTES + length);
        }
        match self.expected {
            Some(expected) if self.bytes > expected => Err(Odd),
            _ => Ok(()),
        }
    }

    /// Whether the message is compressed, as its first byte says.
    fn flag(&self) -> Option<u8> {
        self.chunks.front()?.first().copied()
    }

    /// What is wrong with them. What is only too long is left to the codec.
    fn broken(&self) -> Option<String> {
        let seen = self.bytes;
        match (self.flag(), self.expected) {
            (None, _) => Some("the request holds no message".to_owned()),
            (Some(1), _) => Some(
                "the message is marked as compressed, but no `grpc-encoding` says how".to_owned(),
            ),
            (Some(flag @ 2..), _) => Some(format!(
                "the byte before the message, whether it is compressed, is {flag}: write 0"
            )),
            (_, None) if seen < PREFIX_BYTES => Some(format!(
                "the request ends after {seen} of the {PREFIX_BYTES} bytes before its message"
            )),
            (_, Some(expected)) if seen < expected => Some(format!(
                "the request ends after {} of {} bytes of its message",
                seen - PREFIX_BYTES,
                expected - PREFIX_BYTES
            )),
            (_, Some(expected)) if seen > expected => Some(format!(
                "the request goes on after the {} bytes of its message: a call carries one",
                expected - PREFIX_BYTES
            )),
            _ => None,
        }
    }

    fn are_whole(&self) -> bool {
        self.expected == Some(self.bytes)
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
struct Resumed {
    first: VecDeque<Bytes>,
    next: Polled,
    rest: Body,
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

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Waker};

    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use crate::{rope::Rope, v1::EncodeRequest};

    /// A body of these frames.
    struct Sent(VecDeque<Result<Frame<Bytes>, Status>>);

    impl http_body::Body for Sent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Polled> {
            Poll::Ready(self.0.pop_front())
        }
    }

    /// Nothing here waits for anything.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("pending"),
        }
    }

    fn of(body: Body) -> (Option<EncodeRequest>, Body) {
        let gathered = now(gather(body));
        (gathered.message, gathered.body)
    }

    fn encoded(message: &EncodeRequest) -> Vec<u8> {
        let rope = Rope::new(message.clone()).unwrap();
        rope.pieces().flat_map(|piece| piece.to_vec()).collect()
    }

    /// A body that brings `bytes`, cut at `cuts`, and ends with `end`.
    fn body(bytes: &[u8], cuts: &[usize], end: Polled) -> Body {
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

    fn trailers() -> Polled {
        let mut trailers = HeaderMap::new();
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
        Some(Ok(Frame::trailers(trailers)))
    }

    /// The bytes of a body, and how it ends: trailers, an error's message, or neither.
    fn drain(mut body: Body) -> (Vec<u8>, Option<Result<HeaderMap, String>>) {
        let mut bytes = Vec::new();
        loop {
            let polled = now(poll_fn(|context| Pin::new(&mut body).poll_frame(context)));
            match polled.map(|result| result.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => bytes.extend_from_slice(&data),
                Some(Ok(Err(frame))) => return (bytes, frame.into_trailers().ok().map(Ok)),
                Some(Err(error)) => return (bytes, Some(Err(error.message().to_owned()))),
                None => return (bytes, None),
            }
        }
    }

    fn message(payloads: &[usize]) -> EncodeRequest {
        EncodeRequest {
            meta_version: 1,
            model: "vae".into(),
            payloads: payloads.iter().map(|&n| vec![7; n].into()).collect(),
            ..EncodeRequest::default()
        }
    }

    proptest! {
        #[test]
        fn frames_may_be_cut_anywhere(
            payloads in prop::collection::vec(0_usize..20_000, 0..4),
            cuts in prop::collection::vec(0_usize..9_000, 0..8),
            small_cuts in prop::collection::vec(0_usize..4, 0..6),
        ) {
            let sent = message(&payloads);
            let cuts = [small_cuts, cuts].concat();
            let (received, rest) = of(body(&encoded(&sent), &cuts, trailers()));
            prop_assert_eq!(received, Some(sent));
            let (bytes, end) = drain(rest);
            prop_assert_eq!(bytes, EMPTY);
            prop_assert!(matches!(end, Some(Ok(trailers)) if trailers[Status::GRPC_STATUS] == "0"));
        }

        #[test]
        fn what_is_not_a_message_is_passed_on_unchanged(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            cuts in prop::collection::vec(0_usize..9, 0..4),
        ) {
            let (received, rest) = of(body(&bytes, &cuts, None));
            if received.is_none() {
                prop_assert_eq!(drain(rest).0, bytes);
            }
        }
    }

    #[test]
    fn the_codec_sees_what_is_out_of_the_ordinary() {
        let plain = encoded(&message(&[100]));
        let compressed = [&[1], &plain[1..]].concat();
        let two = [plain.clone(), plain.clone()].concat();
        let long = [&[0, 255, 255, 255, 255], &plain[5..]].concat();
        let cut = plain[..50].to_vec();
        for bytes in [compressed, two, long, cut, Vec::new()] {
            let (received, rest) = of(body(&bytes, &[8, 3], trailers()));
            assert_eq!(received, None);
            let (seen, end) = drain(rest);
            assert_eq!(seen, bytes);
            assert!(matches!(end, Some(Ok(_))), "{end:?}");
        }
    }

    #[test]
    fn payloads_stay_in_their_frames() {
        let sent = message(&[40_000, 50_000]);
        let pieces: Vec<Bytes> = Rope::new(sent.clone()).unwrap().pieces().cloned().collect();
        let frames = pieces.iter().map(|piece| Ok(Frame::data(piece.clone())));
        let (received, _) = of(Body::new(Sent(frames.collect())));
        for (one, other) in received.unwrap().payloads.iter().zip(&sent.payloads) {
            assert_eq!(one.as_ptr(), other.as_ptr());
        }
    }

    #[test]
    fn an_error_comes_after_what_came_before_it() {
        let plain = encoded(&message(&[100]));
        let lost = Some(Err(Status::unavailable("lost")));
        let (received, rest) = of(body(&plain, &[], lost));
        assert_eq!(received, None);
        assert_eq!(drain(rest), (plain, Some(Err("lost".to_owned()))));
    }

    #[test]
    fn what_can_be_no_message_is_said_in_words() {
        let plain = encoded(&message(&[100]));
        let flagged = |flag: u8| [&[flag], &plain[1..]].concat();
        for (bytes, say) in [
            (Vec::new(), "no message"),
            (plain[..3].to_vec(), "after 3 of the 5 bytes"),
            (plain[..50].to_vec(), "after 45 of"),
            (flagged(1), "grpc-encoding"),
            (flagged(7), "is 7: write 0"),
            ([plain.clone(), plain.clone()].concat(), "goes on"),
        ] {
            let broken = now(gather::<EncodeRequest>(body(&bytes, &[2], None))).broken;
            assert!(broken.as_ref().unwrap().contains(say), "{broken:?}");
        }
        let whole = now(gather::<EncodeRequest>(body(&plain, &[2], None)));
        assert_eq!(whole.broken, None);
        let lost = Some(Err(Status::unavailable("lost")));
        let lost = now(gather::<EncodeRequest>(body(&plain[..50], &[], lost)));
        assert_eq!(lost.broken, None);
    }
}
