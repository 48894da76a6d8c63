//! What calls ask for, and what happens to them while they wait for their turn.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use preheat_client::relay::{
    Call, Reply,
    seam::{Asked, Dispatch, Load, Replica, Serving},
};
use preheat_proto::{Error as CallError, inference::ModelInferRequest, v1::EncodeRequest};
use tokio::sync::{Semaphore, watch};

use super::{Answer, ENCODE, Fake, First, Relay, config, framed, push, within};

/// Notes what is asked, and lets calls that are not urgent wait at a gate.
struct Noting {
    first: First,
    asked: Mutex<Vec<Asked>>,
    gate: Arc<Semaphore>,
}

impl Dispatch for Noting {
    fn call(&self, asked: Asked, call: Call) -> BoxFuture<'static, Result<Reply, CallError>> {
        let waits = asked.trainer == "patient";
        self.asked.lock().unwrap().push(asked.clone());
        let gate = Arc::clone(&self.gate);
        let answer = self.first.call(asked, call);
        Box::pin(async move {
            if waits {
                drop(gate.acquire().await.unwrap());
            }
            answer.await
        })
    }

    fn any(&self, model: &str) -> Option<Replica> {
        self.first.any(model)
    }

    fn serving(&self) -> watch::Receiver<Serving> {
        self.first.serving()
    }

    fn load(&self) -> Load {
        self.first.load()
    }
}

async fn noting(fake: &Fake) -> (Relay, Arc<Noting>) {
    let uris = [fake.uri()];
    let noting = Arc::new(Noting {
        first: First::start(&uris),
        asked: Mutex::default(),
        gate: Arc::new(Semaphore::new(0)),
    });
    super::all_up(&*noting, 1).await;
    let relay = Relay::with(Arc::clone(&noting), &config(&uris, &[])).await;
    (relay, noting)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_say_it_or_the_message_does() {
    let fake = Fake::serving(
        super::info("vae", "0123456789", &[]),
        |request, respond| async move {
            let (body, _) = super::read(request.into_body()).await;
            super::whole(respond, body).await;
        },
    )
    .await;
    let (relay, noting) = noting(&fake).await;
    let caller = relay.caller().await;
    let call = async |path: &str, headers: &[(&str, &str)], body: Bytes| {
        let (answer, mut send) = caller.begin(path, headers).await;
        // In two pieces, the first of which ends inside a name.
        push(&mut send, body.slice(..9), false).await.unwrap();
        push(&mut send, body.slice(9..), true).await.unwrap();
        let answer = Answer::read(answer).await;
        assert_eq!((answer.code(), &answer.body), ("0", &body), "{path}");
        noting.asked.lock().unwrap().pop()
    };
    let encode = framed(&EncodeRequest {
        meta_version: 1,
        model: "vae".into(),
        fingerprint: "0123456789".into(),
        payloads: vec![vec![0; 3000].into()],
        ..EncodeRequest::default()
    });
    let headers = [
        ("preheat-model", "vae"),
        ("preheat-fingerprint", "0123456789"),
        ("preheat-cost-pixels", "77"),
        ("preheat-trainer", "run 1"),
        ("preheat-weight", "2.5"),
        ("preheat-needed-in-ms", "1500"),
        ("preheat-ready", "3"),
    ];
    let said = call(ENCODE, &headers, encode.clone()).await.unwrap();
    let expected = Asked {
        model: "vae".into(),
        fingerprint: "0123456789".into(),
        trainer: "run 1".into(),
        weight: 2.5,
        pixels: 77,
        needed_in: std::time::Duration::from_millis(1500),
        ready: Some(3),
    };
    assert_eq!(said, expected);
    let guessed = call(ENCODE, &[("preheat-weight", "NaN")], encode)
        .await
        .unwrap();
    assert_eq!(
        (&*guessed.model, &*guessed.fingerprint),
        ("vae", "0123456789")
    );
    assert_eq!((&*guessed.trainer, guessed.weight), ("127.0.0.1", 1.0));
    assert!(guessed.pixels > 0 && guessed.ready.is_none());
    // The open protocol may pin the first digits.
    let infer = framed(&ModelInferRequest {
        model_name: "vae".into(),
        model_version: "01234567".into(),
        ..ModelInferRequest::default()
    });
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let guessed = call(path, &[("grpc-timeout", "5S")], infer).await.unwrap();
    assert_eq!(
        (&*guessed.model, &*guessed.fingerprint),
        ("vae", "0123456789")
    );
    assert!(guessed.needed_in.as_secs() == 4);
    // Names that are not there are for a replica to miss.
    let nothing = Bytes::from_static(b"\0\0\0\0\x05\x20\x01\x20\x01\x08");
    assert_eq!(call(ENCODE, &[], nothing).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cost_that_is_no_number_is_refused() {
    let fake = Fake::echo().await;
    let relay = Relay::start(&[&fake], &[]).await;
    let caller = relay.caller().await;
    let nonsense = [("preheat-cost-pixels", "many"), ("preheat-model", "vae")];
    let (answer, mut send) = caller.begin(ENCODE, &nonsense).await;
    let _ = push(&mut send, Bytes::from_static(b"x"), true).await;
    assert_eq!(Answer::read(answer).await.code(), "3");
    assert_eq!(fake.calls(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_wait_do_not_hold_up_their_connection() {
    let fake = Fake::echo().await;
    let (relay, noting) = noting(&fake).await;
    let caller = relay.caller().await;
    // More than a connection's window holds.
    let body = Bytes::from(vec![3; 15 << 20]);
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let headers = [("preheat-model", "vae"), ("preheat-trainer", "patient")];
        let (answer, mut send) = caller.begin(ENCODE, &headers).await;
        within(push(&mut send, body.clone(), true)).await.unwrap();
        waiting.push(tokio::spawn(Answer::read(answer)));
    }
    let urgent = caller.encode(&[], body.clone()).await;
    assert_eq!((urgent.code(), urgent.body.len()), ("0", body.len()));
    assert_eq!(fake.calls(), 1);
    noting.gate.add_permits(1);
    for answer in waiting {
        let answer = within(answer).await.unwrap();
        assert_eq!(answer.code(), "0");
        assert!(answer.body == body);
    }
}
