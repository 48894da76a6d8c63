//! Frozen bytes: a change of any of these is a new wire version, not a refactoring.
//! `PREHEAT_BLESS=1 cargo test -p preheat-proto` rewrites them.

use std::{env, fs, path::Path};

use bytes::Bytes;
use preheat_proto::{
    DType, Filter, ItemCode, ItemMeta, ItemReply, META_VERSION, Meta, Posterior, ReplyMeta,
    RequestMeta, Scale, Source, batch::archive, v1,
};
use prost::Message;

pub(crate) fn request_meta() -> RequestMeta {
    let item = ItemMeta {
        id: 0x0102_0304_0506_0708,
        seed: 42,
        source_width: 640,
        source_height: 480,
        resize_width: 342,
        resize_height: 256,
        crop_x: 43,
        crop_y: 0,
        payloads: 1,
        source: Source::Encoded,
        filter: Filter::Lanczos,
        flip: true,
        times: vec![],
    };
    let rgb = ItemMeta {
        id: 9,
        source: Source::Rgb8,
        flip: false,
        ..item.clone()
    };
    RequestMeta {
        width: 256,
        height: 256,
        frames: 1,
        dtype: DType::BF16,
        posterior: Posterior::Sample,
        scale: Scale::Normalized,
        items: vec![item, rgb],
    }
}

/// A clip as frames, and another as a file.
pub(crate) fn clip_meta() -> RequestMeta {
    let images = request_meta();
    let frames = ItemMeta {
        payloads: 5,
        ..images.items[0].clone()
    };
    let file = ItemMeta {
        id: 10,
        payloads: 1,
        source: Source::Video,
        times: vec![-512, 0, 512, 512, i64::from(i32::MAX) + 1],
        ..frames.clone()
    };
    RequestMeta {
        frames: 5,
        items: vec![frames, file],
        ..images
    }
}

pub(crate) fn reply_meta() -> ReplyMeta {
    let failed = ItemReply {
        id: 9,
        offset: 0,
        code: ItemCode::BadImage,
        message: "truncated: 100 of 640 rows".into(),
    };
    ReplyMeta {
        dtype: DType::F16,
        posterior: Posterior::Mode,
        scale: Scale::Raw,
        shape: vec![4, 32, 32],
        items: vec![
            ItemReply {
                id: 7,
                offset: 0,
                code: ItemCode::Ok,
                message: String::new(),
            },
            failed,
        ],
    }
}

fn check_golden(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if env::var_os("PREHEAT_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    assert!(
        fs::read(&path).unwrap() == bytes,
        "{name} changed: that breaks every deployed peer"
    );
}

#[test]
fn request_bytes_are_frozen() {
    let meta = archive(&request_meta()).unwrap();
    check_golden("request-meta-v2.bin", &meta);
    let request = v1::EncodeRequest {
        meta_version: META_VERSION,
        model: "vae".into(),
        fingerprint: "00ff".into(),
        meta,
        payloads: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
    };
    check_golden("request-v2.bin", &request.encode_to_vec());
}

#[test]
fn clip_bytes_are_frozen() {
    check_golden("clip-meta-v2.bin", &archive(&clip_meta()).unwrap());
}

#[test]
fn reply_bytes_are_frozen() {
    let meta = archive(&reply_meta()).unwrap();
    check_golden("reply-meta-v2.bin", &meta);
    let response = v1::EncodeResponse {
        meta_version: META_VERSION,
        fingerprint: "00ff".into(),
        meta,
        latents: Bytes::from_static(&[7; 64]),
    };
    check_golden("reply-v2.bin", &response.encode_to_vec());
}

#[test]
fn frozen_bytes_are_still_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bytes = fs::read(root.join("request-v2.bin")).unwrap();
    let request = v1::EncodeRequest::decode(Bytes::from(bytes)).unwrap();
    let meta = Meta::<RequestMeta>::open(request.meta_version, &request.meta).unwrap();
    let view = meta.view();
    view.check(request.payloads.len()).unwrap();
    assert_eq!(
        rkyv::deserialize::<_, rkyv::rancor::BoxedError>(view).unwrap(),
        request_meta()
    );

    let bytes = fs::read(root.join("clip-meta-v2.bin")).unwrap();
    let meta = Meta::<RequestMeta>::open(META_VERSION, &bytes).unwrap();
    meta.view().check(6).unwrap();
    assert_eq!(
        rkyv::deserialize::<_, rkyv::rancor::BoxedError>(meta.view()).unwrap(),
        clip_meta()
    );

    let bytes = fs::read(root.join("reply-v2.bin")).unwrap();
    let reply = v1::EncodeResponse::decode(Bytes::from(bytes)).unwrap();
    let meta = Meta::<ReplyMeta>::open(reply.meta_version, &reply.meta).unwrap();
    assert_eq!(
        rkyv::deserialize::<_, rkyv::rancor::BoxedError>(meta.view()).unwrap(),
        reply_meta()
    );
}

#[test]
fn bytes_of_an_older_version_are_refused_by_its_number() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let read = |name| Bytes::from(fs::read(root.join(name)).unwrap());
    let request = v1::EncodeRequest::decode(read("request-v1.bin")).unwrap();
    let request = Meta::<RequestMeta>::open(request.meta_version, &request.meta).unwrap_err();
    let reply = v1::EncodeResponse::decode(read("reply-v1.bin")).unwrap();
    let reply = Meta::<ReplyMeta>::open(reply.meta_version, &reply.meta).unwrap_err();
    for error in [request, reply] {
        assert!(error.message.contains("meta_version is 1"), "{error}");
    }
}
