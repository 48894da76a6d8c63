//! Bytes from strangers: refused by name, never a panic.

use preheat_proto::{Code, META_VERSION, Meta, ReplyMeta, RequestMeta, batch::archive, limits, v1};
use proptest::prelude::*;
use prost::Message;

use crate::golden::{reply_meta, request_meta};

fn refusal(change: impl FnOnce(&mut RequestMeta)) -> preheat_proto::Error {
    let mut meta = request_meta();
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
