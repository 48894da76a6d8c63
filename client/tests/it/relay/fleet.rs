//! The relay as one replica: Info, health, who may call, and how it ends.

use std::{fs, time::Duration};

use bytes::Bytes;
use preheat_client::{Security, wire};
use preheat_proto::v1::{InfoRequest, InfoResponse};
use prost::Message as _;
use tonic::{Code, Request, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Answer, ENCODE, Fake, INFO, Relay, info, push, read, until, whole, within};

async fn serving(info: InfoResponse) -> Fake {
    Fake::serving(info, |request, respond| async move {
        let (body, _) = read(request.into_body()).await;
        whole(respond, body).await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn info_is_of_the_whole_fleet() {
    let fakes = [
        serving(info("vae", "new", &["old"])).await,
        serving(info("vae", "old", &[])).await,
        serving(info("vae", "new", &[])).await,
        serving(info("other", "x", &[])).await,
    ];
    let relay = Relay::balancing(&fakes.each_ref(), &[]).await;
    let caller = relay.caller().await;
    let (answer, mut send) = caller.begin(INFO, &[]).await;
    push(&mut send, Bytes::from_static(&[0; 5]), true)
        .await
        .unwrap();
    let answer = Answer::read(answer).await;
    assert_eq!(answer.code(), "0");
    let merged = InfoResponse::decode(&answer.body[5..]).unwrap();
    let names: Vec<_> = merged
        .models
        .iter()
        .map(|m| (&*m.name, &*m.fingerprint))
        .collect();
    assert_eq!(names, [("other", "x"), ("vae", "new")]);
    assert_eq!(merged.models[1].older_fingerprints, ["old"]);
}

async fn status(client: &mut HealthClient<tonic::transport::Channel>, name: &str) -> Option<i32> {
    let request = HealthCheckRequest {
        service: name.to_owned(),
    };
    let answer = client.check(request).await.ok()?;
    Some(answer.into_inner().status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_that_of_the_living() {
    let (vae, other) = (
        serving(info("vae", "new", &[])).await,
        serving(info("other", "x", &[])).await,
    );
    let relay = Relay::balancing(&[&vae, &other], &[]).await;
    let channel = Endpoint::from_shared(format!("http://{}", relay.addr)).unwrap();
    let mut client = HealthClient::new(channel.connect_lazy());
    let (up, down) = (
        Some(ServingStatus::Serving as i32),
        Some(ServingStatus::NotServing as i32),
    );
    let wait = async |client: &mut HealthClient<_>, name, expected| {
        within(async {
            while status(client, name).await != expected {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    for name in ["", "preheat.v1.Encoder", "model:vae", "model:other"] {
        wait(&mut client, name, up).await;
    }
    assert_eq!(status(&mut client, "model:unknown").await, None);
    drop(vae);
    wait(&mut client, "model:vae", down).await;
    assert_eq!(status(&mut client, "").await, up);
    drop(other);
    wait(&mut client, "", down).await;
    // And those who ask are told so.
    let caller = relay.caller().await;
    let (answer, mut send) = caller.begin(INFO, &[]).await;
    push(&mut send, Bytes::from_static(&[0; 5]), true)
        .await
        .unwrap();
    let answer = Answer::read(answer).await;
    assert_eq!(answer.code(), "14");
    assert!(
        answer.message().contains("no replica is up"),
        "{}",
        answer.message()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_finish_when_it_ends() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let open = gate.clone();
    let fake = Fake::start(move |request, respond| {
        let gate = gate.clone();
        async move {
            let (body, _) = read(request.into_body()).await;
            drop(gate.acquire().await.unwrap());
            whole(respond, body).await;
        }
    })
    .await;
    let mut relay = Relay::start(&[&fake], &[]).await;
    let caller = relay.caller().await;
    let (answer, mut send) = caller.begin(ENCODE, &[("preheat-model", "vae")]).await;
    push(&mut send, Bytes::from_static(b"bytes"), true)
        .await
        .unwrap();
    until("the replica has it", || fake.calls() == 1).await;
    relay.stop();
    // Nobody else gets in.
    within(async {
        while tokio::net::TcpStream::connect(relay.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!relay.task.is_finished());
    open.add_permits(1);
    let answer = Answer::read(answer).await;
    assert_eq!((answer.code(), &answer.body[..]), ("0", &b"bytes"[..]));
    within(&mut relay.task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_is_that_of_a_replica() {
    let authority = crate::security::Authority::new();
    let fake = serving(info("vae", "new", &[])).await;
    let tokens = authority.path("tokens");
    fs::write(&tokens, "secret\n").unwrap();
    let path = |name: &str| authority.path(name).to_str().unwrap().to_owned();
    let options = [
        "--tls-cert".to_owned(),
        path("server.cert"),
        "--tls-key".to_owned(),
        path("server.key"),
        "--tls-client-ca".to_owned(),
        path("ca"),
        "--token-file".to_owned(),
        path("tokens"),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let relay = Relay::start(&[&fake], &options).await;
    let security = Security {
        ca_file: Some(authority.path("ca")),
        client_cert: Some(authority.path("client.cert")),
        client_key: Some(authority.path("client.key")),
        server_name: Some("replica.test".into()),
        token_file: Some(tokens),
    };
    let uri = format!("https://{}", relay.addr);
    let endpoint = wire::endpoint(&uri, &security).unwrap();
    let client = wire::Connections::lazy(endpoint, 1);
    let refused = client.info(Request::new(InfoRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let mut request = Request::new(InfoRequest {});
    security.bearer().unwrap().unwrap().sign(&mut request);
    assert_eq!(client.info(request).await.unwrap().models[0].name, "vae");
    // Who speaks plaintext is told what to do.
    let plain = Endpoint::from_shared(format!("http://{}", relay.addr)).unwrap();
    let plain = wire::Connections::lazy(plain.connect_timeout(Duration::from_secs(10)), 1);
    // Not always the first time: the connection may close before its last word is read.
    within(async {
        loop {
            let error = plain.info(Request::new(InfoRequest {})).await.unwrap_err();
            let words = wire::failure(&error, false).unwrap().message;
            if words.contains("https://") {
                return;
            }
        }
    })
    .await;
}
