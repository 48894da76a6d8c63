use std::{
    collections::VecDeque,
    pin::pin,
    task::{Context, Poll, Waker},
};

use proptest::prelude::*;
use prost::encoding::{encode_key, encode_varint};

use super::*;
use crate::rope::{
    Rope,
    frames::Polled,
    sent::{Sent, body, encoded, message, now},
};

/// With something in `meta`, so that payloads are handed out as they come.
fn laden(payloads: &[usize]) -> EncodeRequest {
    EncodeRequest {
        meta: Bytes::from_static(b"meta"),
        ..message(payloads)
    }
}

/// What a body holds.
fn read(body: Body) -> Result<EncodeRequest, Status> {
    match now(Arriving::begin(body)) {
        Begun::Message(arriving) => now(arriving.whole()),
        Begun::Odd(_, broken) => Err(bad(broken.unwrap_or_default())),
    }
}

proptest! {
    #[test]
    fn frames_may_be_cut_anywhere(
        payloads in prop::collection::vec(0_usize..20_000, 0..4),
        meta in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec(0_usize..9_000, 0..8),
        small_cuts in prop::collection::vec(0_usize..4, 0..6),
    ) {
        let sent = EncodeRequest { meta: meta.into(), ..message(&payloads) };
        let cuts = [small_cuts, cuts].concat();
        prop_assert_eq!(read(body(&encoded(&sent), &cuts, None)).unwrap(), sent);
    }

    /// Whatever prost makes of bytes is made of them here, or else they are refused.
    #[test]
    fn it_is_no_laxer_than_the_parser(
        at in 0_usize..200,
        to in any::<u8>(),
        cuts in prop::collection::vec(0_usize..90, 0..4),
    ) {
        let mut bytes = encoded(&laden(&[20, 0, 100]));
        let at = PREFIX_BYTES + at % (bytes.len() - PREFIX_BYTES);
        bytes[at] = to;
        let plain = EncodeRequest::decode(&bytes[PREFIX_BYTES..]);
        if let Ok(seen) = read(body(&bytes, &cuts, None)) {
            prop_assert_eq!(seen, plain.unwrap());
        }
    }
}

/// A body that stands still after these frames.
struct Stuck(Sent);

impl http_body::Body for Stuck {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Polled> {
        match Pin::new(&mut self.0).poll_frame(context) {
            Poll::Ready(None) => Poll::Pending,
            other => other,
        }
    }
}

#[test]
fn what_has_come_is_handed_out_while_the_rest_is_on_its_way() {
    let sent = laden(&[40_000, 10, 50_000]);
    let bytes = encoded(&sent);
    // All but the last byte.
    let some = Bytes::from(bytes).split_to(90_000);
    let frames: VecDeque<_> = [Ok(Frame::data(some))].into();
    let Begun::Message(mut arriving) = now(Arriving::begin(Body::new(Stuck(Sent(frames))))) else {
        panic!("this is a message");
    };
    let small = now(arriving.small()).unwrap();
    assert_eq!((small.model, small.meta), (sent.model, sent.meta));
    for payload in &sent.payloads[..2] {
        assert_eq!(now(arriving.payload()).unwrap().as_ref(), Some(payload));
    }
    let third = pin!(arriving.payload()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(third.is_pending());
}

#[test]
fn payloads_stay_in_their_frames() {
    let sent = laden(&[40_000, 50_000]);
    let pieces: Vec<Bytes> = Rope::new(sent.clone()).unwrap().pieces().cloned().collect();
    let frames = pieces.iter().map(|piece| Ok(Frame::data(piece.clone())));
    let received = read(Body::new(Sent(frames.collect()))).unwrap();
    for (one, other) in received.payloads.iter().zip(&sent.payloads) {
        assert_eq!(one.as_ptr(), other.as_ptr());
    }
}

#[test]
fn what_can_be_no_message_is_said_in_words() {
    let plain = encoded(&laden(&[100]));
    let flagged = |flag: u8| [&[flag], &plain[1..]].concat();
    for (bytes, say) in [
        (Vec::new(), "no message"),
        (plain[..3].to_vec(), "after 3 of the 5 bytes"),
        (plain[..50].to_vec(), "after 45 of"),
        (flagged(1), "grpc-encoding"),
        (flagged(7), "is 7: write 0"),
        ([plain.clone(), plain.clone()].concat(), "goes on"),
    ] {
        let status = read(body(&bytes, &[2], None)).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(say), "{status}");
    }
    let lost = Some(Err(Status::unavailable("lost")));
    let lost = read(body(&plain[..50], &[], lost)).unwrap_err();
    assert_eq!(lost.message(), "lost");
}

#[test]
fn the_codec_sees_what_is_out_of_the_ordinary() {
    let plain = encoded(&message(&[100]));
    let compressed = [&[1], &plain[1..]].concat();
    let long = [&[0, 255, 255, 255, 255], &plain[5..]].concat();
    for bytes in [compressed, long, Vec::new()] {
        let Begun::Odd(mut rest, _) = now(Arriving::begin(body(&bytes, &[8, 3], None))) else {
            panic!("this is no plain message");
        };
        let mut seen = Vec::new();
        while let Some(frame) = now(poll_fn(|context| Pin::new(&mut rest).poll_frame(context))) {
            seen.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        assert_eq!(seen, bytes);
    }
}

/// Fields as bytes, in this order.
fn written(fields: &[(u32, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, value) in fields {
        encode_key(*number, WireType::LengthDelimited, &mut bytes);
        encode_varint(value.len() as u64, &mut bytes);
        bytes.extend_from_slice(value);
    }
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &bytes].concat()
}

#[test]
fn fields_may_come_in_any_order_that_can_be_followed() {
    let payload: (u32, &[u8]) = (16, b"one");
    let late = written(&[(4, b"meta"), payload, (2, b"vae"), payload]);
    let status = read(body(&late, &[], None)).unwrap_err();
    assert!(status.message().contains("field 2 comes after"), "{status}");
    let early = written(&[payload, (2, b"vae"), (4, b"meta"), payload, (99, b"new")]);
    let request = read(body(&early, &[7], None)).unwrap();
    assert_eq!((&*request.model, request.payloads.len()), ("vae", 2));
}

#[test]
fn a_swarm_of_payloads_is_refused_before_it_takes_memory() {
    let swarm = vec![(16, &b""[..]); limits::MAX_PAYLOADS + 1];
    let status = read(body(&written(&swarm), &[], None)).unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange);
    let long = vec![7; MAX_SMALL_BYTES];
    let status = read(body(&written(&[(2, &long)]), &[], None)).unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange);
}
