//! Info, health and reflection.

use preheat_proto::v1;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb;

use crate::harness::{Replica, soon};

#[tokio::test(flavor = "multi_thread")]
async fn info_says_what_a_client_plans_with() {
    let options = [
        "--model",
        "m=synthetic:channels=16",
        "--queue-pixels",
        "1000000",
    ];
    let replica = Replica::start(&options).await;
    let info = replica
        .client()
        .info(v1::InfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(info.meta_version, preheat_proto::META_VERSION);
    let model = &info.models[0];
    assert_eq!(
        (model.name.as_str(), model.class_name.as_str()),
        ("m", "Synthetic")
    );
    assert_eq!(model.fingerprint.len(), 64);
    assert_eq!(model.device, "cpu");
    assert_eq!(model.compute_dtype(), v1::DType::F32);
    assert_eq!((model.latent_channels, model.spatial_compression), (16, 8));
    assert!(model.untrained && !model.has_posterior);
    let limits = info.limits.unwrap();
    assert_eq!(limits.max_output_pixels, 1_000_000);
    assert_eq!(limits.max_items, 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_of_the_whole_the_service_and_each_model() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    let mut client = HealthClient::new(replica.channel.clone());
    let services = [
        "",
        "preheat.v1.Encoder",
        "inference.GRPCInferenceService",
        "model:m",
    ];
    for service in services {
        let service = service.to_owned();
        let answer = client.check(HealthCheckRequest { service }).await.unwrap();
        assert_eq!(answer.get_ref().status(), ServingStatus::Serving);
    }
    let service = "model:other".to_owned();
    let status = client
        .check(HealthCheckRequest { service })
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services_in_both_versions() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;

    use pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let mut client = ServerReflectionClient::new(replica.channel.clone());
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let asks = futures::stream::iter([ask]);
    let mut answers = client
        .server_reflection_info(asks)
        .await
        .unwrap()
        .into_inner();
    let answer = soon(answers.message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list: {answer:?}");
    };
    let names: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert!(names.contains(&"preheat.v1.Encoder"), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
    assert!(
        names.contains(&"inference.GRPCInferenceService"),
        "{names:?}"
    );

    use pb::v1alpha;
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(replica.channel.clone());
    let symbol = "preheat.v1.Encoder".to_owned();
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol),
        ),
    };
    let asks = futures::stream::iter([ask]);
    let mut answers = client
        .server_reflection_info(asks)
        .await
        .unwrap()
        .into_inner();
    let answer = soon(answers.message()).await.unwrap().unwrap();
    assert!(matches!(
        answer.message_response,
        Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
    ));
}
