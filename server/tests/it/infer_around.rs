//! The open protocol: what is here, in which version, and the layers that its calls pass.

use preheat_proto::{
    headers::RETRY_PUSHBACK_MS,
    inference::{
        ModelMetadataRequest, ModelReadyRequest, ServerLiveRequest, ServerMetadataRequest,
        ServerReadyRequest,
    },
    v1,
};
use tonic::Code;

use crate::{
    files::{ASTRONAUT, CHELSEA, ROCKET},
    harness::{Ask, Gate, Replica, connect, eventually, soon},
    infer::{Infer, client, probabilistic},
};

async fn fingerprint(replica: &Replica) -> String {
    let info = replica.client().info(v1::InfoRequest {}).await.unwrap();
    info.into_inner().models[0].fingerprint.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_and_in_which_version() {
    let replica = Replica::with_models(&[], probabilistic()).await;
    let fingerprint = &fingerprint(&replica).await;
    let mut client = client(replica.channel.clone());

    let server = client
        .server_metadata(ServerMetadataRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(server.name, "preheat-server");
    assert_eq!(server.version, env!("CARGO_PKG_VERSION"));
    assert!(
        client
            .server_live(ServerLiveRequest {})
            .await
            .unwrap()
            .get_ref()
            .live
    );
    assert!(
        client
            .server_ready(ServerReadyRequest {})
            .await
            .unwrap()
            .get_ref()
            .ready
    );

    let mut ready = async |name: &str, version: &str| {
        let (name, version) = (name.to_owned(), version.to_owned());
        let answer = client
            .model_ready(ModelReadyRequest { name, version })
            .await;
        answer.unwrap().into_inner().ready
    };
    for version in ["", fingerprint, &fingerprint[..8]] {
        assert!(ready("m", version).await, "{version}");
        let mut infer = Infer::files(&[ASTRONAUT.0]).size(8, 8);
        infer.0.model_version = version.to_owned();
        let answer = infer.send(&replica).await.unwrap();
        assert_eq!(answer.0.model_version, *fingerprint);
        assert_eq!(answer.parameter("fingerprint"), fingerprint);
    }
    for version in [
        "1",
        &fingerprint[..7],
        "00000000",
        &format!("{fingerprint}0"),
    ] {
        assert!(!ready("m", version).await, "{version}");
    }
    assert!(!ready("other", "").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_lists_the_tensors() {
    let replica = Replica::with_models(&[], probabilistic()).await;
    let fingerprint = fingerprint(&replica).await;
    let mut client = client(replica.channel.clone());
    let request = ModelMetadataRequest {
        name: "m".into(),
        version: String::new(),
    };
    let model = client.model_metadata(request).await.unwrap().into_inner();
    assert_eq!(model.versions, [fingerprint.as_str()]);
    let tensors = model.inputs.iter().chain(&model.outputs);
    let tensors: Vec<_> = tensors
        .map(|t| (t.name.as_str(), t.datatype.as_str(), t.shape.as_slice()))
        .collect();
    assert_eq!(
        tensors,
        [
            ("image", "BYTES", &[-1][..]),
            ("pixels", "UINT8", &[-1, -1, -1, 3]),
            ("latents", "FP32", &[-1, 4, -1, -1]),
            ("logvar", "FP32", &[-1, 4, -1, -1]),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_in_the_same_queue_and_drains_with_it() {
    let (gate, models) = Gate::new();
    // Room for two items of 64x64.
    let mut replica = Replica::with_models(&["--queue-pixels", "8192"], models).await;
    let two = Infer::files(&[ASTRONAUT.0, ROCKET.0]).size(64, 64);
    let first = client(replica.channel.clone());
    let first = tokio::spawn(async move { two.call(first).await });
    gate.entered().await;

    let one = Infer::files(&[CHELSEA.0]).size(64, 64);
    let status = one.send(&replica).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.metadata().contains_key(RETRY_PUSHBACK_MS));
    let native = Ask::new(64, 64).grey(1);
    let status = replica.encode(&native).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    // What never fits is told so, whatever the header claims.
    let three = Infer::files(&[CHELSEA.0; 3]).size(64, 64);
    let status = three.send(&replica).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");

    replica.stop();
    let late = client(connect(replica.address).await);
    eventually(async || {
        let ready = late.clone().server_ready(ServerReadyRequest {}).await;
        !ready.unwrap().into_inner().ready
    })
    .await;
    assert!(
        late.clone()
            .server_live(ServerLiveRequest {})
            .await
            .unwrap()
            .get_ref()
            .live
    );
    let (name, version) = ("m".to_owned(), String::new());
    let ready = late
        .clone()
        .model_ready(ModelReadyRequest { name, version })
        .await;
    assert!(!ready.unwrap().get_ref().ready);
    let status = one.call(late).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");

    drop(gate);
    let answer = soon(first).await.unwrap().unwrap();
    assert_eq!(answer.tensor("latents").1, [2, 4, 8, 8]);
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_hold() {
    let (gate, models) = Gate::new();
    let replica = Replica::with_models(&[], models).await;
    let mut request = tonic::Request::new(Infer::files(&[CHELSEA.0]).size(8, 8).0);
    request
        .metadata_mut()
        .insert("grpc-timeout", "500m".parse().unwrap());
    let mut client = client(replica.channel.clone());
    let status = soon(client.model_infer(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    drop(gate);
}
