//! Everything that can be wrong with a call has its own code, and a message that names it.

use bytes::Bytes;
use preheat_proto::{headers::COST_PIXELS, limits, v1};
use tonic::{Code, Request};

use crate::{
    files::CHELSEA,
    harness::{Ask, Replica, soon},
};

/// What the message must say, and the mistake.
type Edit = (&'static str, fn(&mut Ask));

fn good() -> Ask {
    Ask::new(64, 64).file(CHELSEA.0, CHELSEA.1, [0, 0])
}

async fn replica() -> Replica {
    Replica::start(&[
        "--model",
        "m=synthetic",
        "--model",
        "other=synthetic:version=1",
    ])
    .await
}

async fn assert_refused(
    replica: &Replica,
    request: Request<v1::EncodeRequest>,
    code: Code,
    say: &str,
) {
    let status = soon(replica.client().encode(request)).await.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(say), "{say} is not in: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_metas_are_named() {
    let replica = replica().await;
    let edits: [Edit; 10] = [
        ("width", |ask| ask.meta.width = 0),
        ("height", |ask| ask.meta.height = u32::MAX),
        ("frames", |ask| ask.meta.frames = 0),
        ("items", |ask| ask.meta.items.clear()),
        ("payloads", |ask| ask.payloads.clear()),
        ("payloads", |ask| ask.payloads.push(Bytes::new())),
        ("items[0]: source_width", |ask| {
            ask.meta.items[0].source_width = 0
        }),
        ("items[0]: the crop", |ask| ask.meta.items[0].crop_x = 449),
        ("items[0]: payloads", |ask| ask.meta.items[0].payloads = 2),
        ("nearest are 56 and 64", |ask| ask.meta.width = 60),
    ];
    for (say, edit) in edits {
        let mut ask = good();
        edit(&mut ask);
        assert_refused(&replica, ask.request(), Code::InvalidArgument, say).await;
    }
    let mut request = good().request();
    request.get_mut().meta_version = 7;
    assert_refused(
        &replica,
        request,
        Code::InvalidArgument,
        "meta_version is 7",
    )
    .await;
    let mut request = good().request();
    request.get_mut().meta = Bytes::from_static(b"these are no rkyv bytes at all..");
    assert_refused(&replica, request, Code::InvalidArgument, "request meta").await;

    assert!(replica.encode(&good()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_out_of_range() {
    let replica = replica().await;
    let mut request = good().request();
    request.get_mut().payloads[0] = vec![0; limits::MAX_PAYLOAD_BYTES + 1].into();
    assert_refused(&replica, request, Code::OutOfRange, "a payload has").await;
    let mut request = good().request();
    request.get_mut().meta = vec![0; limits::MAX_META_BYTES + 1].into();
    assert_refused(&replica, request, Code::OutOfRange, "request meta").await;
    // Three bytes each on the wire, and thirty-two in memory: refused at the second.
    let mut request = good().request();
    request.get_mut().payloads = vec![Bytes::new(); 1 << 20];
    assert_refused(&replica, request, Code::InvalidArgument, "more were sent").await;
    let huge = good().header(COST_PIXELS, u64::MAX);
    assert_refused(&replica, huge.request(), Code::OutOfRange, "send fewer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_fingerprints() {
    let replica = replica().await;
    let info = replica
        .client()
        .info(v1::InfoRequest {})
        .await
        .unwrap()
        .into_inner();
    let prints: Vec<_> = info.models.iter().map(|m| m.fingerprint.clone()).collect();
    assert_ne!(prints[0], prints[1]);

    let mut ask = good();
    ask.fingerprint.clone_from(&prints[0]);
    assert_eq!(replica.encode(&ask).await.unwrap().fingerprint, prints[0]);
    ask.model = "other".into();
    assert_refused(
        &replica,
        ask.request(),
        Code::FailedPrecondition,
        &prints[1],
    )
    .await;
    ask.model = "mystery".into();
    assert_refused(
        &replica,
        ask.request(),
        Code::NotFound,
        "served are m, other",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cost_that_is_no_number() {
    let replica = replica().await;
    for cost in ["", "many", "-1", "1.5"] {
        let ask = good().header(COST_PIXELS, cost);
        assert_refused(&replica, ask.request(), Code::InvalidArgument, COST_PIXELS).await;
    }
}
