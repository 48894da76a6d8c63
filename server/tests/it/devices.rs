//! Several devices in one replica, and devices that fail.

use preheat_models::{Error, PixelData, Pixels};
use preheat_proto::ItemCode;
use preheat_server::Model;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    harness::{Ask, Gate, Replica, Reply, encoder, eventually, soon},
    load::has_room,
};

fn item(value: u8) -> Ask {
    Ask::new(64, 64).grey(value)
}

fn start(replica: &Replica, ask: Ask) -> tokio::task::JoinHandle<Result<Reply, tonic::Status>> {
    let mut client = replica.client();
    tokio::spawn(async move { ask.insist(&mut client).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_work_at_the_same_time_and_give_the_same() {
    let (gates, models) = Gate::on_devices::<2>();
    let replica = Replica::with_models(&["--max-batch", "1"], models).await;
    let calls = [1, 2].map(|value| start(&replica, item(value)));
    // Neither is let through before the other has begun.
    for gate in &gates {
        assert_eq!(gate.entered().await, 1);
    }
    drop(gates);
    for (call, value) in calls.into_iter().zip([1_u8, 2]) {
        let reply = soon(call).await.unwrap().unwrap();
        let expected = f32::from(value) / 127.5 - 1.0;
        assert!((reply.latent(0)[0] - expected).abs() < 1e-5);
    }
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_left_or_came_too_late_costs_no_device_anything() {
    let (gates, models) = Gate::on_devices::<2>();
    // Room for three items.
    let replica = Replica::with_models(&["--queue-pixels", "12288"], models).await;
    let mut first = Vec::new();
    for gate in &gates {
        // One after the other, or they would share a batch.
        first.push(start(&replica, item(1)));
        gate.entered().await;
    }
    let cancelled = start(&replica, item(3));
    eventually(async || !has_room(&replica, 1).await).await;
    cancelled.abort();
    eventually(|| has_room(&replica, 4096)).await;

    let late = item(4).header("grpc-timeout", "300m");
    let status = late.insist(&mut replica.client()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    eventually(|| has_room(&replica, 4096)).await;

    for gate in &gates {
        gate.pass();
    }
    for call in first {
        soon(call).await.unwrap().unwrap();
    }
    eventually(|| has_room(&replica, 12288)).await;
    assert!(gates.iter().all(Gate::is_quiet));
}

/// A device that fails everything, also pictures that are known to be good.
fn broken(_: &Pixels) -> Result<(), Error> {
    Err(Error::Device("it has fallen off the bus".into()))
}

/// A device that cannot stand one grey.
fn picky(pixels: &Pixels) -> Result<(), Error> {
    match &pixels.data {
        PixelData::Rgb8(rgb) if rgb.iter().all(|value| *value == 13) => panic!("as it must"),
        _ => Ok(()),
    }
}

async fn health(replica: &Replica, service: &str) -> ServingStatus {
    let mut client = HealthClient::new(replica.channel.clone());
    let service = service.to_owned();
    let answer = soon(client.check(HealthCheckRequest { service })).await;
    answer.unwrap().into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_keeps_failing_is_taken_out_and_the_other_goes_on() {
    let models = vec![Model::new("m", vec![encoder(broken), encoder(|_| Ok(()))])];
    let replica = Replica::with_models(&[], models).await;
    let mut lost = 0;
    for value in 0..20 {
        match replica.encode(&item(value)).await {
            Ok(reply) => assert!(reply.items[0].is_ok()),
            // An answer that sends the caller on, never a failed item.
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                lost += 1;
            }
        }
    }
    assert!((1..=3).contains(&lost), "{lost} calls were lost");
    assert_eq!(health(&replica, "model:m").await, ServingStatus::Serving);
    replica.encode(&item(1)).await.unwrap();
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_device_says_so_and_the_others_go_on() {
    let models = vec![
        Model::new("m", vec![encoder(broken)]),
        Model::new("other", vec![encoder(|_| Ok(()))]),
    ];
    let replica = Replica::with_models(&[], models).await;
    let mut said = String::new();
    for value in 0..4 {
        let status = replica.encode(&item(value)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        said = status.message().to_owned();
    }
    assert!(said.contains("no device") && said.contains("`m`"), "{said}");
    let status = async |service| health(&replica, service).await;
    eventually(async || status("model:m").await == ServingStatus::NotServing).await;
    assert_eq!(status("model:other").await, ServingStatus::Serving);
    assert_eq!(status("").await, ServingStatus::Serving);
    let mut other = item(1);
    other.model = "other".into();
    assert!(replica.encode(&other).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_any_device_is_not_serving() {
    let models = vec![Model::new("m", vec![encoder(broken), encoder(broken)])];
    let replica = Replica::with_models(&[], models).await;
    for value in 0..7 {
        let status = replica.encode(&item(value)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    for service in ["", "preheat.v1.Encoder", "model:m"] {
        eventually(async || health(&replica, service).await == ServingStatus::NotServing).await;
    }
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_kills_batches_takes_no_device_out() {
    let models = vec![Model::new("m", vec![encoder(picky), encoder(picky)])];
    let replica = Replica::with_models(&[], models).await;
    for _ in 0..12 {
        let reply = replica.encode(&item(13)).await.unwrap();
        assert_eq!(reply.code(0), ItemCode::Internal);
    }
    replica.encode(&item(1)).await.unwrap();
    assert_eq!(health(&replica, "model:m").await, ServingStatus::Serving);
}
