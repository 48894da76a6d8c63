//! Peers that open streams and say little, and what the answers carry beside the latents.

use std::{collections::BTreeMap, net::TcpStream};

use bytes::Bytes;
use prost::Message;
use tonic::{Code, metadata::MetadataMap};

use crate::{
    harness::{Ask, Gate, Replica, client, connect, eventually, soon},
    process::Program,
    raw::{Raw, prefix, read},
};

/// What a stalled stream promises.
const PROMISE: u32 = 32 << 20;

/// What it costs: the allocator touches a little of what it reserves.
const PROMISE_COST: u64 = 2 << 20;

fn patience(text: &str) -> [(String, Vec<u8>); 1] {
    [("grpc-timeout".to_owned(), text.as_bytes().to_vec())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_body_is_answered_at_its_deadline() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    let raw = Raw::connect(replica.address).await;
    for start in [Bytes::new(), prefix(PROMISE)] {
        let (response, mut sending) = raw.open(&patience("300m")).await.unwrap();
        sending.send_data(start, false).unwrap();
        let answer = soon(read(response)).await.unwrap();
        let status = answer.status().unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    }
    // Cut inside the message: said to be wrong, at once.
    let answer = soon(raw.call(&[], prefix(PROMISE))).await.unwrap();
    assert_ne!(answer.status().unwrap().code(), Code::Ok);
    replica.encode(&Ask::new(8, 8).grey(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn promises_cost_no_memory_and_bounded_places() {
    let (program, address) = Program::start(&["--model", "m=synthetic"]);
    let mut client = client(connect(address).await);
    Ask::new(8, 8).grey(1).send(&mut client).await.unwrap();
    let before = program.resident();
    let mut held = Vec::new();
    let connections = [Raw::connect(address).await, Raw::connect(address).await];
    for raw in &connections {
        for _ in 0..100 {
            let (response, mut sending) = raw.open(&[]).await.unwrap();
            sending.send_data(prefix(PROMISE), false).unwrap();
            held.push((response, sending));
        }
    }
    // 200 of 256 places are taken, with 6.4 GB promised; others are served meanwhile.
    Ask::new(64, 64).grey(2).send(&mut client).await.unwrap();
    let grown = program.resident().saturating_sub(before);
    assert!(grown < 200 * PROMISE_COST, "grew by {grown} bytes");

    // All places taken: refused with a pushback, not left waiting; and free again when they go.
    let third = Raw::connect(address).await;
    let mut more = Vec::new();
    let refused = soon(async {
        while Ask::new(8, 8).grey(3).send(&mut client).await.is_ok() {
            let (response, mut sending) = third.open(&[]).await.unwrap();
            // Where the place of the call before is not free yet, this one is refused already.
            let _ = sending.send_data(prefix(PROMISE), false);
            more.push((response, sending));
        }
        Ask::new(8, 8).grey(3).send(&mut client).await.unwrap_err()
    })
    .await;
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(
        refused.message().contains("256 calls are open"),
        "{refused}"
    );
    assert!(more.len() > 50, "{}", more.len());
    drop((held, more, connections, third));
    eventually(async || {
        Ask::new(8, 8)
            .grey(4)
            .send(&mut client.clone())
            .await
            .is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_hold_up_others() {
    let mut replica = Replica::start(&["--model", "m=synthetic"]).await;
    let silent: Vec<_> = (0..64)
        .map(|_| TcpStream::connect(replica.address).unwrap())
        .collect();
    replica.encode(&Ask::new(8, 8).grey(1)).await.unwrap();
    // Nor its end.
    replica.stop();
    soon(replica.stopped()).await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    replica.encode(&Ask::new(8, 8).grey(1)).await.unwrap();
    let mut held = Vec::new();
    // One past the bound, which is in the README: the last one is closed at once, by the replica.
    for _ in 0..1024 {
        held.push(
            tokio::net::TcpStream::connect(replica.address)
                .await
                .unwrap(),
        );
    }
    let last = held.last_mut().unwrap();
    let mut byte = [0];
    let heard = soon(tokio::io::AsyncReadExt::read(last, &mut byte)).await;
    assert!(matches!(heard, Ok(0) | Err(_)), "{heard:?}");
    replica.encode(&Ask::new(8, 8).grey(1)).await.unwrap();
}

/// `xds.data.orca.v3.OrcaLoadReport`, as others declare it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Load {
    #[prost(double, tag = "1")]
    cpu_utilization: f64,
    #[prost(btree_map = "string, double", tag = "4")]
    request_cost: BTreeMap<String, f64>,
    #[prost(double, tag = "6")]
    rps_fractional: f64,
    #[prost(double, tag = "7")]
    pub(crate) eps: f64,
    #[prost(btree_map = "string, double", tag = "8")]
    named_metrics: BTreeMap<String, f64>,
    #[prost(double, tag = "9")]
    application_utilization: f64,
}

pub(crate) fn load(headers: http::HeaderMap) -> Load {
    let metadata = MetadataMap::from_headers(headers);
    let value = metadata.get_bin("endpoint-load-metrics-bin");
    Load::decode(value.expect("a load report").to_bytes().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_how_loaded_the_replica_is() {
    let (gate, models) = Gate::new();
    let replica = Replica::with_models(&["--queue-pixels", "8192"], models).await;
    let raw = Raw::connect(replica.address).await;
    let body = |ask: Ask| {
        let message = ask.request().into_inner().encode_to_vec();
        Bytes::from([&prefix(message.len() as u32)[..], &message].concat())
    };
    let mut client = replica.client();
    let full = Ask::new(64, 64).grey(1).grey(2);
    let waiting = tokio::spawn(async move { full.send(&mut client).await });
    gate.entered().await;

    // A refusal has no trailers of its own, and carries the report beside the status.
    let one = body(Ask::new(64, 64).grey(3));
    let refused = soon(raw.call(&[], one.clone())).await.unwrap();
    assert_eq!(refused.status().unwrap().code(), Code::ResourceExhausted);
    let seen = load(refused.headers);
    assert_eq!(seen.application_utilization, 1.0);
    assert_eq!(seen.named_metrics["queued_pixels"], 8192.0);
    assert_eq!(seen.named_metrics["queue_pixels"], 8192.0);

    drop(gate);
    soon(waiting).await.unwrap().unwrap();
    let served = soon(raw.call(&[], one)).await.unwrap();
    assert_eq!(served.status().unwrap().code(), Code::Ok);
    assert!(served.body.len() > 64 * 64 / 64 * 4 * 4);
    assert!(!served.headers.contains_key("endpoint-load-metrics-bin"));
    let seen = load(served.trailers);
    assert_eq!(seen.request_cost["pixels"], 4096.0);
    let seconds = seen.request_cost["seconds"];
    assert!(seconds > 0.0 && seconds < 60.0, "{seconds}");
    assert_eq!(seen.application_utilization, 0.0);
    assert!(seen.named_metrics["pixels_per_second"] > 0.0, "{seen:?}");
    assert!(seen.rps_fractional > 0.0 && seen.eps == 0.0, "{seen:?}");
    // Not measured, so not said.
    assert_eq!(seen.cpu_utilization, 0.0);
}
