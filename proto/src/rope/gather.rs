//! Receiving an answer: the message is decoded from the frames that it came in, and a payload that
//! lies in one frame stays there.

use std::{future::poll_fn, pin::Pin};

use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame};
use tonic::body::Body;

use super::{
    EMPTY, Laden, PREFIX_BYTES,
    frames::{Frames, Resumed},
};
use crate::screen::few;

/// What [`gather`] made of a body.
pub(super) struct Gathered<M> {
    /// The message, if the body was one and nothing else.
    pub(super) message: Option<M>,
    /// A body with an empty message in the place of that one; otherwise one that repeats what was read
    /// and goes on, for the codec to make of it what it will.
    pub(super) body: Body,
}

/// Reads a body to its end.
pub(super) async fn gather<M: Laden>(mut body: Body) -> Gathered<M> {
    let mut frames = Frames::default();
    let (next, odd) = loop {
        let polled = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        match polled.map(|result| result.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => {
                frames.push(data);
                // Compressed, too long, or several messages: not read here.
                let plain = |(flag, length)| flag == 0 && length <= M::MAX_BYTES;
                let ends = |(_, length)| PREFIX_BYTES + length;
                let prefix = frames.prefix();
                if prefix.is_some_and(|it| !plain(it) || frames.remaining() > ends(it)) {
                    break (None, true);
                }
            }
            Some(Ok(Err(trailers))) => break (Some(Ok(trailers)), false),
            Some(Err(error)) => break (Some(Err(error)), true),
            None => break (None, false),
        }
    };
    let whole = frames
        .prefix()
        .is_some_and(|(_, length)| frames.remaining() == PREFIX_BYTES + length);
    let message = if whole && !odd {
        // A copy of handles, because the codec must see them again if this fails.
        let mut rope = frames.clone();
        rope.advance(PREFIX_BYTES);
        let few = few(M::FIELD, rope.clone());
        few.ok().and_then(|()| M::decode(rope).ok())
    } else {
        None
    };
    if message.is_some() {
        frames = Frames::default();
        frames.push(Bytes::from_static(EMPTY));
    }
    let body = Resumed::after(frames, next, body);
    Gathered { message, body }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;
    use tonic::Status;

    use super::*;
    use crate::{
        rope::{
            Rope,
            frames::Polled,
            sent::{Sent, body, encoded, message, now},
        },
        v1::EncodeRequest,
    };

    fn of(body: Body) -> (Option<EncodeRequest>, Body) {
        let gathered = now(gather(body));
        (gathered.message, gathered.body)
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
}
