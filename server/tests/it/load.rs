//! Overload, deadlines, callers that leave, and batching.

use std::time::Duration;

use preheat_proto::headers::{COST_PIXELS, RETRY_PUSHBACK_MS};
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Ask, Gate, Replica, eventually, soon};

/// Room for two items of 64x64.
pub(crate) const ROOM_FOR_TWO: [&str; 2] = ["--queue-pixels", "8192"];

fn item() -> Ask {
    Ask::new(64, 64).grey(9)
}

/// Whether so many pixels would be admitted now. The call is admitted by its header and then
/// refused for its archive, so it leaves no trace.
pub(crate) async fn has_room(replica: &Replica, pixels: u32) -> bool {
    let mut request = item().header(COST_PIXELS, pixels).request();
    request.get_mut().meta_version = 99;
    let status = soon(replica.client().encode(request)).await.unwrap_err();
    match status.code() {
        Code::InvalidArgument => true,
        Code::ResourceExhausted => false,
        other => panic!("unexpected {other}: {status}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_when_to_come_back() {
    let (gate, models) = Gate::new();
    let replica = Replica::with_models(&ROOM_FOR_TWO, models).await;
    let mut client = replica.client();
    let first = tokio::spawn(async move { item().grey(1).send(&mut client).await });
    gate.entered().await;

    // Admitted by the header, before the body is read, or by the handler, after: both refuse.
    for ask in [item().header(COST_PIXELS, 4096), item()] {
        let status = replica.encode(&ask).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let pushback = status.metadata().get(RETRY_PUSHBACK_MS).unwrap();
        let millis: u64 = pushback.to_str().unwrap().parse().unwrap();
        assert!((1..=5000).contains(&millis), "{millis}");
        // The same again for programs that read google.rpc details; these are kept to the
        // nanosecond, the header to the millisecond below.
        let info = status.get_details_retry_info().unwrap();
        let details = info.retry_delay.unwrap().as_millis();
        assert_eq!(details, u128::from(millis));
    }
    // What never fits is told so.
    let huge = item().header(COST_PIXELS, 8193);
    let status = replica.encode(&huge).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");

    drop(gate);
    assert!(soon(first).await.unwrap().is_ok());
    replica.encode(&item().grey(2)).await.unwrap();
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_below_the_truth_is_topped_up() {
    let (gate, models) = Gate::new();
    let replica = Replica::with_models(&ROOM_FOR_TWO, models).await;
    let mut client = replica.client();
    let ask = item().grey(1).header(COST_PIXELS, 1);
    let call = tokio::spawn(async move { ask.send(&mut client).await });
    gate.entered().await;
    assert!(!has_room(&replica, 1).await);
    drop(gate);
    assert!(soon(call).await.unwrap().is_ok());
    assert!(has_room(&replica, 8192).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_are_answered_and_free_their_place() {
    let (gate, models) = Gate::new();
    let replica = Replica::with_models(&ROOM_FOR_TWO, models).await;
    let mut client = replica.client();
    let first = tokio::spawn(async move { item().send(&mut client).await });
    gate.entered().await;

    let status = replica
        .encode(&item().header("grpc-timeout", "800m"))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    eventually(|| has_room(&replica, 4096)).await;
    assert!(!has_room(&replica, 4097).await);
    drop(gate);
    assert!(soon(first).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_frees_its_place_and_is_not_encoded() {
    let (gate, models) = Gate::new();
    let replica = Replica::with_models(&ROOM_FOR_TWO, models).await;
    let start = |value| {
        let mut client = replica.client();
        tokio::spawn(async move { Ask::new(64, 64).grey(value).insist(&mut client).await })
    };
    let first = start(1);
    gate.entered().await;
    let second = start(2);
    eventually(async || !has_room(&replica, 1).await).await;
    second.abort();
    eventually(|| has_room(&replica, 4096)).await;

    gate.pass();
    assert!(soon(first).await.unwrap().is_ok());
    let third = start(3);
    gate.entered().await;
    gate.pass();
    // Had the second been encoded, it would stand at the gate now and the third would wait.
    assert!(soon(third).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn siblings_in_decoding_are_waited_for() {
    let (gate, models) = Gate::new();
    let options = ["--decode-threads", "1", "--linger-ms", "5000"];
    let replica = Replica::with_models(&options, models).await;
    let ask = (0..16).fold(Ask::new(64, 64), |ask, value| ask.grey(value));
    let mut client = replica.client();
    let call = tokio::spawn(async move { ask.send(&mut client).await });
    assert_eq!(gate.entered().await, 16);
    drop(gate);
    assert!(soon(call).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_sibling_does_not_hold_up_the_others() {
    let replica = Replica::start(&["--model", "m=synthetic", "--linger-ms", "600000"]).await;
    let ask = Ask::new(64, 64)
        .grey(1)
        .file(b"not an image", [64, 64], [0, 0]);
    let reply = soon(replica.encode(&ask)).await.unwrap();
    assert!(reply.items[0].is_ok() && reply.items[1].is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_at_once_all_get_their_own_answer() {
    let replica = Replica::start(&["--model", "m=synthetic:ms-per-megapixel=20"]).await;
    let calls = (0..200_u8).map(|value| {
        let mut client = replica.client();
        async move {
            let side = 8 * (1 + u32::from(value) % 5);
            let ask = Ask::new(side, side).grey(value).grey(255 - value);
            let ask = ask.header(COST_PIXELS, 2 * side * side);
            loop {
                match ask.send(&mut client).await {
                    Ok(reply) => break (value, reply),
                    Err(status) if status.code() == Code::ResourceExhausted => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(status) => panic!("{status}"),
                }
            }
        }
    });
    for (value, reply) in soon(futures::future::join_all(calls)).await {
        let expected = f32::from(value) / 127.5 - 1.0;
        assert!((reply.latent(0)[0] - expected).abs() < 1e-5);
        assert!((reply.latent(1)[0] + expected).abs() < 1e-5);
    }
    replica.stopped().await;
}
