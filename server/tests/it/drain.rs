//! What was admitted is finished; what is new is refused; health says so first.

use preheat_proto::headers::RETRY_PUSHBACK_MS;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;

use crate::harness::{Ask, Gate, Replica, connect, soon};

#[tokio::test(flavor = "multi_thread")]
async fn admitted_work_finishes_and_new_work_is_refused() {
    let (gate, models) = Gate::new();
    let mut replica = Replica::with_models(&[], models).await;
    let mut client = replica.client();
    let admitted = tokio::spawn(async move { Ask::new(8, 8).grey(5).send(&mut client).await });
    gate.entered().await;

    let mut health = HealthClient::new(connect(replica.address).await);
    let service = String::new();
    let watch = health.watch(HealthCheckRequest { service }).await.unwrap();
    let mut watch = watch.into_inner();
    let mut next = async || soon(watch.message()).await.unwrap().map(|m| m.status());
    assert_eq!(next().await, Some(ServingStatus::Serving));
    replica.stop();
    assert_eq!(next().await, Some(ServingStatus::NotServing));

    // Also on connections made only now.
    let late = connect(replica.address).await;
    crate::harness::eventually(async || {
        let mut client = crate::harness::client(late.clone());
        let ask = Ask::new(8, 8).grey(6).header("grpc-timeout", "500m");
        // A call that came between the two steps of draining is still admitted, which is fine.
        match ask.send(&mut client).await {
            Err(status) if status.code() == Code::Unavailable => {
                assert!(status.metadata().contains_key(RETRY_PUSHBACK_MS));
                assert!(status.get_details_retry_info().is_some());
                true
            }
            Err(status) if status.code() == Code::DeadlineExceeded => false,
            other => panic!("unexpected {other:?}"),
        }
    })
    .await;

    drop(gate);
    let reply = soon(admitted).await.unwrap().unwrap();
    assert_eq!(reply.items.len(), 1);
    // Watches end, so that they do not keep the replica alive.
    assert_eq!(next().await, None);
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_is_bounded() {
    let (gate, models) = Gate::new();
    let replica = Replica::with_models(&["--drain-timeout", "0"], models).await;
    let mut client = replica.client();
    let stuck = tokio::spawn(async move { Ask::new(8, 8).grey(5).send(&mut client).await });
    gate.entered().await;
    replica.stopped().await;
    stuck.abort();
}
