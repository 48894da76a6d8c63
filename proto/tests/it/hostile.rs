//! Bytes from strangers: refused by name, never a panic.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use preheat_proto::{
    Code, Error, META_VERSION, Meta, ReplyMeta, RequestMeta, batch::archive, limits, rope, v1,
    v1::encoder_client::EncoderClient,
};
use proptest::prelude::*;
use prost::Message;
use tonic::{body::Body, codegen::Service};

use crate::golden::{clip_meta, reply_meta, request_meta};

fn refusal(change: impl FnOnce(&mut RequestMeta)) -> preheat_proto::Error {
    refusal_of(request_meta(), change)
}

fn refusal_of(
    mut meta: RequestMeta,
    change: impl FnOnce(&mut RequestMeta),
) -> preheat_proto::Error {
    change(&mut meta);
    let meta = Meta::<RequestMeta>::open(META_VERSION, &archive(&meta).unwrap()).unwrap();
    meta.view().check(2).unwrap_err()
}

/// The start of the message, and what to spoil.
type Case = (&'static str, fn(&mut RequestMeta));

#[test]
fn every_field_is_refused_by_name() {
    let cases: [Case; 9] = [
        ("width is 0", |meta| meta.width = 0),
        ("height is 40000", |meta| meta.height = 40_000),
        ("frames is 0", |meta| meta.frames = 0),
        ("items has 0 entries", |meta| meta.items.clear()),
        ("items[0]: source_width is 0", |meta| {
            meta.items[0].source_width = 0
        }),
        ("items[1]: source size has", |meta| {
            meta.items[1].source_width = limits::MAX_SIDE;
            meta.items[1].source_height = limits::MAX_SIDE;
        }),
        ("items[0]: the crop ends at (299,", |meta| {
            meta.items[0].resize_width = 298
        }),
        ("items[1]: payloads is 2", |meta| meta.items[1].payloads = 2),
        ("items[0]: the crop ends at (4294967551,", |meta| {
            meta.items[0].crop_x = u32::MAX
        }),
    ];
    for (expected, change) in cases {
        let error = refusal(change);
        assert_eq!(error.code, Code::BadRequest, "{error}");
        assert!(
            error.message.starts_with(expected),
            "{error} does not start with {expected}"
        );
    }
}

#[test]
fn every_field_of_a_clip_is_refused_by_name() {
    let cases: [Case; 6] = [
        ("items[0]: payloads is 5, must equal frames, 6", |meta| {
            meta.frames = 6;
        }),
        ("items[0]: times has 1 entries, but only", |meta| {
            meta.items[0].times = vec![0];
        }),
        ("items[1]: payloads is 5, must be 1 for a video", |meta| {
            meta.items[1].payloads = 5;
        }),
        ("items[1]: times has 4 entries, must be one", |meta| {
            meta.items[1].times.pop();
        }),
        ("items[1]: times goes back from 512 to 511", |meta| {
            meta.items[1].times[3] = 511;
        }),
        ("items[1]: times has 0 entries", |meta| {
            meta.items[1].times.clear();
        }),
    ];
    for (expected, change) in cases {
        let error = refusal_of(clip_meta(), change);
        assert_eq!(error.code, Code::BadRequest, "{error}");
        assert!(error.message.starts_with(expected), "{error}");
    }
}

#[test]
fn the_frames_of_a_call_are_bounded() {
    let error = refusal_of(clip_meta(), |meta| {
        (meta.width, meta.height) = (8, 8);
        meta.items = vec![meta.items[1].clone(); limits::MAX_PAYLOADS / 5 + 1];
    });
    assert_eq!(error.code, Code::TooLarge);
    assert!(error.message.contains("asks for 4100 frames"), "{error}");
}

/// What the limits promise: one clip of 121 frames of 1280x720.
#[test]
fn the_largest_clip_fits() {
    let mut meta = clip_meta();
    (meta.width, meta.height, meta.frames) = (1280, 720, 121);
    let item = &mut meta.items[0];
    (item.source_width, item.source_height) = (1280, 720);
    (item.resize_width, item.resize_height) = (1280, 720);
    (item.crop_x, item.payloads) = (0, 121);
    meta.items.truncate(1);
    let meta = Meta::<RequestMeta>::open(META_VERSION, &archive(&meta).unwrap()).unwrap();
    meta.view().check(121).unwrap();
    assert_eq!(meta.view().cost_pixels(), 121 * 1280 * 720);
}

#[test]
fn payload_count_must_add_up() {
    let meta = Meta::<RequestMeta>::open(META_VERSION, &archive(&request_meta()).unwrap()).unwrap();
    let error = meta.view().check(3).unwrap_err();
    assert_eq!(error.message, "items consume 2 payloads, but 3 were sent");
}

#[test]
fn too_many_pixels_are_too_large() {
    let error = refusal(|meta| {
        (meta.width, meta.height) = (8192, 8192);
        meta.items = vec![meta.items[0].clone(); 3];
    });
    assert_eq!(error.code, Code::TooLarge);
}

#[test]
fn versions_are_refused_by_number() {
    let error = Meta::<RequestMeta>::open(7, &archive(&request_meta()).unwrap()).unwrap_err();
    assert!(error.message.starts_with("meta_version is 7"), "{error}");
}

#[test]
fn a_reply_must_fit_its_request() {
    let bytes = archive(&reply_meta()).unwrap();
    let meta = Meta::<ReplyMeta>::open(META_VERSION, &bytes).unwrap();
    let tensor = 4 * 32 * 32 * 2;
    assert_eq!(meta.view().check(&[7, 9], tensor).unwrap(), tensor);
    for (ids, latents) in [
        (vec![7], tensor),
        (vec![7, 8], tensor),
        (vec![7, 9], tensor - 1),
    ] {
        assert_eq!(
            meta.view().check(&ids, latents).unwrap_err().code,
            Code::Internal
        );
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = v1::EncodeRequest::decode(&bytes[..]);
        if let Ok(meta) = Meta::<RequestMeta>::open(META_VERSION, &bytes) {
            let _ = meta.view().check(1);
        }
        if let Ok(meta) = Meta::<ReplyMeta>::open(META_VERSION, &bytes) {
            let _ = meta.view().check(&[1], 64);
        }
    }

    #[test]
    fn damaged_archives_never_panic(at in 0_usize..400, to in any::<u8>(), cut in 0_usize..400) {
        for mut bytes in [
            archive(&request_meta()).unwrap().to_vec(),
            archive(&clip_meta()).unwrap().to_vec(),
            archive(&reply_meta()).unwrap().to_vec(),
        ] {
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut % bytes.len());
            if let Ok(meta) = Meta::<RequestMeta>::open(META_VERSION, &bytes) {
                let _ = meta.view().check(2);
            }
            if let Ok(meta) = Meta::<ReplyMeta>::open(META_VERSION, &bytes) {
                let _ = meta.view().check(&[7, 9], 8192);
            }
        }
    }
}

/// Answers every call with an error whose details are not in base64, in headers or in trailers.
#[derive(Clone)]
struct Liar {
    in_trailers: bool,
}

impl Service<http::Request<Body>> for Liar {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        let mut status = http::HeaderMap::new();
        for (name, value) in [
            ("grpc-status", "8"),
            ("grpc-message", "full"),
            ("grpc-retry-pushback-ms", "70"),
            ("grpc-status-details-bin", "!!"),
        ] {
            status.insert(name, http::HeaderValue::from_static(value));
        }
        let mut response = http::Response::new(Body::empty());
        if self.in_trailers {
            let trailers = Frame::trailers(status);
            *response.body_mut() = Body::new(One(Some(trailers)));
        } else {
            *response.headers_mut() = status;
        }
        let kind = http::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", kind);
        ready(Ok(response))
    }
}

struct One(Option<Frame<Bytes>>);

impl http_body::Body for One {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

#[test]
fn details_that_cannot_be_read_cost_the_details_and_nothing_else() {
    for in_trailers in [false, true] {
        let mut client = EncoderClient::new(rope::Caller(Liar { in_trailers }));
        let request = rope::request(tonic::Request::new(v1::EncodeRequest::default())).unwrap();
        let calls = async {
            (
                client.clone().encode(request).await,
                client.info(v1::InfoRequest {}).await,
            )
        };
        // Nothing here waits for anything.
        let (encode, info) = match pin!(calls).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(results) => results,
            Poll::Pending => panic!("pending"),
        };
        for status in [encode.unwrap_err(), info.unwrap_err()] {
            let error = Error::from(&status);
            assert_eq!((error.code, &*error.message), (Code::Busy, "full"));
            assert_eq!(error.retry_after, Some(Duration::from_millis(70)));
            assert!(status.details().is_empty());
        }
    }
}
