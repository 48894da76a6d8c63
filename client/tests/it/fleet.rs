//! Several replicas, some of them away, slow, wrong or worse: what is delivered stays the same.

use std::{
    fs,
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use preheat_client::{
    Config, DataLoader, Error, SampleInfo,
    balance::{ReplicaView, Standing},
};
use tokio::{runtime::Runtime, sync::Semaphore};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Status, transport::Server};

use crate::{
    photos::Photos,
    port::Port,
    proxy::{Proxy, Wires},
    stub::{Act, Stub, drain, eventually},
};

fn list(stubs: &[&Stub]) -> String {
    let uris: Vec<_> = stubs.iter().map(|stub| stub.uri()).collect();
    uris.join(",")
}

fn expected(photos: &Photos) -> Vec<SampleInfo> {
    let stub = Stub::answering();
    delivered(&mut DataLoader::new(photos.config(&stub.uri())).unwrap())
}

fn delivered(loader: &mut DataLoader) -> Vec<SampleInfo> {
    let batches = drain(loader, 1);
    batches.into_iter().flat_map(|one| one.samples).collect()
}

/// One call a sample: the more of them, the more there is to balance.
fn in_small_calls(mut config: Config) -> Config {
    config.chunk_items = Some(1);
    config
}

/// A loader that has asked for a few samples, and knows of each replica whether it serves: what is
/// started first must not have done all the work before the others are met.
fn acquainted(config: Config) -> DataLoader {
    let mut config = in_small_calls(config);
    config.max_batches_ahead = 2;
    let loader = DataLoader::new(config).unwrap();
    eventually("every replica is known", || {
        let fleet = loader.fleet();
        let known = |one: &ReplicaView| one.standing != Standing::Unknown;
        fleet.replicas.iter().all(known)
    });
    loader
}

#[test]
fn work_goes_to_all_of_them() {
    let photos = Photos::new(120);
    // Nobody answers before everybody has something to answer.
    let gate = Arc::new(Semaphore::new(0));
    let stubs = [0; 3].map(|_| {
        let gate = gate.clone();
        Stub::start(move |_, _| Act::Wait(gate.clone()))
    });
    let config = in_small_calls(photos.config(&list(&stubs.each_ref())));
    let mut loader = DataLoader::new(config).unwrap();
    eventually("all have a call", || {
        stubs.iter().all(|stub| stub.calls() > 0)
    });
    gate.add_permits(1000);
    assert_eq!(delivered(&mut loader), expected(&photos));
    let fleet = loader.fleet();
    let up = |one: &&_| matches!(one, Standing::Up);
    let standings: Vec<_> = fleet.replicas.iter().map(|one| one.standing).collect();
    assert_eq!(standings.iter().filter(up).count(), 3);
    assert_eq!(fleet.totals.failed, 0);
}

#[test]
fn what_is_not_a_replica_is_named_and_passed_by() {
    let photos = Photos::new(60);
    let good = Stub::answering();
    let runtime = Runtime::new().unwrap();
    // Speaks gRPC, and serves something else.
    let other = {
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let (_, health) = tonic_health::server::health_reporter();
        let server = Server::builder().add_service(health);
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    };
    // Accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = Port::hold();
    let entries = [
        good.uri(),
        format!("http://{other}"),
        format!("http://{}", silent.local_addr().unwrap()),
        format!("http://{}", nobody.addr),
        // TLS, where the other side has none.
        good.uri().replace("http://", "https://"),
        good.uri(),
    ];
    let config = photos.config(&entries.join(","));
    let mut loader = DataLoader::new(config).unwrap();
    assert_eq!(delivered(&mut loader), expected(&photos));
    eventually("everything is judged", || {
        let fleet = loader.fleet();
        let judged =
            |one: &ReplicaView| one.standing == Standing::Away || one.standing == Standing::Up;
        fleet.replicas.iter().all(judged)
    });
    let fleet = loader.fleet();
    assert_eq!(fleet.replicas.len(), 5, "the same one twice is one");
    let reason = |uri: &str| {
        let found = fleet.replicas.iter().find(|one| &*one.name == uri);
        found.unwrap().reason.to_string()
    };
    assert_eq!(reason(&entries[0]), "");
    assert!(reason(&entries[1]).contains("not a preheat replica"));
    assert!(reason(&entries[2]).contains("no answer within"));
    assert!(reason(&entries[3]).contains("refused"));
    assert!(
        reason(&entries[4]).contains("http://"),
        "{}",
        reason(&entries[4])
    );
}

#[test]
fn a_replica_that_never_answers_holds_nothing_up_for_long() {
    let photos = Photos::new(200);
    let never = Arc::new(Semaphore::new(0));
    // The others answer nothing before it has got what it will not answer.
    let gate = Arc::new(Semaphore::new(0));
    let opens = gate.clone();
    let dead = Stub::start(move |call, _| {
        if call == 0 {
            return Act::Answer;
        }
        opens.add_permits(1000);
        Act::Wait(never.clone())
    });
    let [one, two] = [0; 2].map(|_| {
        let gate = gate.clone();
        Stub::start(move |_, _| Act::Wait(gate.clone()))
    });
    let config = in_small_calls(photos.config(&list(&[&dead, &one, &two])));
    let mut loader = DataLoader::new(config).unwrap();
    let mut samples = Vec::new();
    let mut longest = Duration::ZERO;
    loop {
        let asked = Instant::now();
        let Some(batch) = loader.next_batch().unwrap() else {
            break;
        };
        longest = longest.max(asked.elapsed());
        samples.extend(batch.samples);
    }
    assert_eq!(samples, expected(&photos));
    assert!(dead.calls() > 1);
    // Calls of milliseconds: the bound on hedges, with room for a busy machine.
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    assert!(loader.fleet().totals.hedges_won > 0);
}

#[test]
fn a_replica_that_fails_fast_gets_little() {
    let photos = Photos::new(200);
    let broken = Stub::start(|_, _| Act::Fail(Status::internal("out of memory")));
    let (one, two) = (Stub::answering(), Stub::answering());
    let mut loader = acquainted(photos.config(&list(&[&broken, &one, &two])));
    assert_eq!(delivered(&mut loader), expected(&photos));
    assert!(broken.calls() < 12, "{} calls", broken.calls());
    assert_eq!(loader.fleet().totals.failed, 0);
}

#[test]
fn other_weights_are_never_mixed_in() {
    let photos = Photos::new(100);
    // Says that it serves what is asked for, and answers with other weights.
    let liar = Stub::start(|_, _| Act::Tamper(|reply| reply.fingerprint = "beef".into()));
    let (one, two) = (Stub::answering(), Stub::answering());
    let mut loader = acquainted(photos.config(&list(&[&liar, &one, &two])));
    assert_eq!(delivered(&mut loader), expected(&photos));
    let fleet = loader.fleet();
    let view = fleet
        .replicas
        .iter()
        .find(|view| *view.name == *liar.uri())
        .unwrap();
    assert_eq!(view.answered_calls, 0);
    assert!(view.faults > 0);
}

#[test]
fn poison_is_tried_on_two_replicas_and_fails_by_name() {
    let photos = Photos::new(40);
    let order = expected(&photos);
    let poison = order[20].id;
    let deaths = Arc::new(AtomicUsize::new(0));
    // Whichever gets it breaks all its connections, as if the process had ended.
    let behind: Vec<_> = (0..4)
        .map(|_| {
            let (wires, deaths) = (Wires::default(), deaths.clone());
            let scissors = wires.clone();
            let stub = Stub::start(move |_, ids| {
                if ids.contains(&poison) {
                    deaths.fetch_add(1, SeqCst);
                    scissors.cut();
                    return Act::Wait(Arc::new(Semaphore::new(0)));
                }
                Act::Answer
            });
            let proxy = Proxy::start(stub.addr, wires);
            (stub, proxy)
        })
        .collect();
    let uris: Vec<_> = behind.iter().map(|(_, proxy)| proxy.uri()).collect();
    let mut config = in_small_calls(photos.config(&uris.join(",")));
    config.max_batches_ahead = 2;
    let mut loader = DataLoader::new(config).unwrap();
    let error = loop {
        match loader.next_batch() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it was delivered"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Call { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("replicas ended while they had it"),
        "{error}"
    );
    let key = loader.dataset().key(poison).into_owned();
    assert!(
        error.to_string().contains(&key),
        "{error} does not name {key}"
    );
    assert_eq!(deaths.load(SeqCst), 2);
}

#[test]
fn a_listed_file_is_followed() {
    let photos = Photos::new(400);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replicas");
    let gate = Arc::new(Mutex::new(()));
    let held = gate.clone();
    let first = Stub::start(move |_, _| {
        drop(held.lock().unwrap());
        Act::Answer
    });
    fs::write(&path, format!("{}\n", first.uri())).unwrap();
    let mut config = in_small_calls(photos.config(&format!("file:{}", path.display())));
    config.max_batches_ahead = 2;
    let mut loader = DataLoader::new(config).unwrap();
    loader.next_batch().unwrap();
    let second = Stub::answering();
    fs::write(&path, format!("# moved\n{}\n", second.uri())).unwrap();
    eventually("the new one is up, and the old one gone", || {
        let fleet = loader.fleet();
        let names: Vec<_> = fleet
            .replicas
            .iter()
            .map(|one| one.name.to_string())
            .collect();
        names == [second.uri()] && fleet.replicas[0].standing == Standing::Up
    });
    let before = first.calls();
    while loader.next_batch().unwrap().is_some() {}
    assert_eq!(first.calls(), before);
    assert!(second.calls() > 0);
}
