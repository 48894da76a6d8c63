//! Replicas that are away, busy, broken or wrong.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use preheat_client::{Batch, Config, DataLoader, Error, SampleInfo};
use preheat_proto::{Code, Error as CallError};
use tokio::sync::Semaphore;
use tonic::Status;

use crate::{
    photos::Photos,
    port::Port,
    proxy::{Proxy, Wires},
    stub::{Act, Stub, drain, eventually},
};

fn samples(batches: &[Batch]) -> Vec<SampleInfo> {
    batches
        .iter()
        .flat_map(|batch| batch.samples.clone())
        .collect()
}

fn expected(photos: &Photos) -> Vec<SampleInfo> {
    let stub = Stub::answering();
    samples(&drain(
        &mut DataLoader::new(photos.config(&stub.uri())).unwrap(),
        1,
    ))
}

fn refused(config: Config) -> Error {
    DataLoader::new(config).err().expect("an error")
}

/// The error of the first batch of a run against a replica that always does `act`.
fn always(act: impl Fn() -> Act + Send + Sync + 'static) -> (Error, usize) {
    let (photos, stub) = (Photos::new(4), Stub::start(move |_, _| act()));
    let mut config = photos.config(&stub.uri());
    config.max_batches_ahead = 1;
    config.chunk_pixels = Some(1 << 20);
    let mut loader = DataLoader::new(config).unwrap();
    let at = loader.state();
    let error = loader.next_batch().unwrap_err();
    assert!(matches!(loader.next_batch(), Err(Error::Stopped(_))));
    assert_eq!(loader.state(), at, "the failed batch is not skipped");
    (error, stub.calls())
}

#[test]
fn busy_and_unavailable_are_waited_out() {
    let photos = Photos::new(23);
    let expected = expected(&photos);
    let attempts = Mutex::new(BTreeMap::new());
    let stub = Stub::start(move |_, ids| {
        let mut attempts = attempts.lock().unwrap();
        let attempt = attempts.entry(ids.to_vec()).or_insert(0);
        *attempt += 1;
        match *attempt {
            1 => Act::Fail(CallError::busy("queue full", Duration::from_millis(5)).into()),
            2 => Act::Fail(Status::unavailable("draining")),
            3 => Act::Fail(Status::cancelled("changed my mind")),
            _ => Act::Answer,
        }
    });
    let mut loader = DataLoader::new(photos.config(&stub.uri())).unwrap();
    assert!(samples(&drain(&mut loader, 1)) == expected);
    assert!(loader.stats().retries >= 3);
}

#[test]
fn cut_connections_are_made_again() {
    let photos = Photos::new(40);
    let expected = expected(&photos);
    let wires = Wires::default();
    let scissors = wires.clone();
    // Fewer cuts than ends that make a request suspect, whichever calls they hit.
    let stub = Stub::start(move |call, _| {
        if [2, 7, 13, 20].contains(&call) {
            scissors.cut();
        }
        Act::Answer
    });
    let proxy = Proxy::start(stub.addr, wires);
    let mut loader = DataLoader::new(photos.config(&proxy.uri())).unwrap();
    assert!(samples(&drain(&mut loader, 1)) == expected);
    assert!(loader.stats().retries > 0);
}

#[test]
fn a_killed_replica_may_return_on_its_port() {
    let photos = Photos::new(40);
    let expected = expected(&photos);
    // Answers three calls and sits on the rest, so that every death breaks some.
    let mortal = |call, _: &[u64]| match call {
        0..3 => Act::Answer,
        _ => Act::Wait(Arc::new(Semaphore::new(0))),
    };
    let mut stub = Stub::start(mortal);
    let mut config = photos.config(&stub.uri());
    config.max_batches_ahead = 2;
    let mut loader = DataLoader::new(config).unwrap();
    let trainer = std::thread::spawn(move || {
        let batches = drain(&mut loader, 1);
        (batches, loader.stats())
    });
    for _ in 0..3 {
        eventually("a call to break", || {
            stub.calls() > 3 && stub.counts.in_flight.load(SeqCst) > 0
        });
        stub = Stub::start_at(stub.kill(), mortal);
    }
    eventually("a call to break", || stub.calls() > 3);
    let _immortal = Stub::start_at(stub.kill(), |_, _| Act::Answer);
    let (batches, stats) = trainer.join().unwrap();
    assert!(samples(&batches) == expected);
    assert!(stats.retries >= 4);
}

#[test]
fn patience_ends() {
    let (photos, stub) = (
        Photos::new(4),
        Stub::start(|_, _| Act::Fail(Status::unavailable("gone"))),
    );
    let mut config = photos.config(&stub.uri());
    config.patience = Duration::from_millis(200);
    let error = DataLoader::new(config).unwrap().next_batch().unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Call {
                code: Code::Unavailable,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("gone; gave up after"), "{error}");
}

#[test]
fn wrong_requests_are_not_repeated() {
    for status in [
        Status::invalid_argument("why"),
        Status::failed_precondition("serves fingerprint ff"),
        Status::out_of_range("too large"),
        Status::unimplemented("what"),
    ] {
        let (code, message) = (status.code(), status.message().to_owned());
        let (error, calls) = always(move || Act::Fail(Status::new(code, &message)));
        assert!(error.to_string().contains("epoch 0, step 0"), "{error}");
        assert_eq!(calls, 1, "{error}");
    }
}

#[test]
fn faults_are_repeated_a_few_times() {
    let (error, calls) = always(|| Act::Fail(Status::internal("out of memory")));
    assert!(
        error.to_string().contains("out of memory; gave up after"),
        "{error}"
    );
    assert!((2..=4).contains(&calls), "{calls}");
}

#[test]
fn answers_of_another_model_are_refused() {
    let (error, calls) = always(|| Act::Tamper(|reply| reply.fingerprint = "beef".into()));
    assert!(
        matches!(
            &error,
            Error::Call {
                code: Code::WrongFingerprint,
                ..
            }
        ),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("beef") && text.contains(crate::stub::FINGERPRINT),
        "{text}"
    );
    assert_eq!(calls, 1);
}

#[test]
fn broken_answers_are_faults() {
    let broken: [fn(&mut preheat_proto::v1::EncodeResponse); 3] = [
        |reply| reply.latents.truncate(10),
        |reply| reply.meta.truncate(20),
        |reply| reply.meta_version = 9,
    ];
    for change in broken {
        let (error, calls) = always(move || Act::Tamper(change));
        assert!(error.to_string().contains("broken reply"), "{error}");
        assert!(calls > 1);
    }
}

#[test]
fn nobody_at_the_endpoint_is_said_in_time() {
    let photos = Photos::new(1);
    let nobody = Port::hold();
    let mut config = photos.config(&format!("http://{}", nobody.addr));
    config.connect_timeout = Duration::from_millis(500);
    let start = Instant::now();
    let error = refused(config.clone());
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));

    // Listens, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    config.endpoint = format!("http://{}", silent.local_addr().unwrap());
    let error = refused(config);
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_replica_may_come_up_late() {
    let photos = Photos::new(4);
    let port = Port::hold();
    let config = photos.config(&format!("http://{}", port.addr));
    let loading = std::thread::spawn(move || DataLoader::new(config).map(|_| ()));
    let _stub = Stub::start_at(port, |_, _| Act::Answer);
    loading.join().unwrap().unwrap();
}

#[test]
fn configs_that_the_model_cannot_serve() {
    let (photos, stub) = (Photos::new(4), Stub::answering());
    let mut config = photos.config(&stub.uri());
    config.model = "vae".into();
    let text = refused(config.clone()).to_string();
    assert!(text.contains("`vae`; it serves `stub`, `other`"), "{text}");
    config.model = "other".into();
    config.posterior = preheat_client::Posterior::Sample;
    let text = refused(config.clone()).to_string();
    assert!(text.contains("set `posterior` to Mode"), "{text}");
    for endpoint in ["", "localhost:1", "ftp://localhost:1", "http://"] {
        config.endpoint = endpoint.into();
        let text = refused(config.clone()).to_string();
        assert!(text.contains("http://host:port"), "{text}");
    }
}

#[test]
fn dropping_the_loader_cancels_its_calls() {
    let gate = Arc::new(Semaphore::new(0));
    let stub = Stub::start(move |_, _| Act::Wait(gate.clone()));
    let photos = Photos::new(40);
    let loader = DataLoader::new(photos.config(&stub.uri())).unwrap();
    eventually("calls under way", || stub.counts.in_flight.load(SeqCst) > 0);
    drop(loader);
    eventually("all cancelled", || stub.counts.in_flight.load(SeqCst) == 0);
}
