//! One or two replicas with a few misfortunes each.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use fastrand::Rng;
use preheat_proto::{Error as CallError, ItemCode};
use tokio::sync::Semaphore;
use tonic::Status;

use crate::{
    proxy::{Proxy, Wires},
    stub::{Act, Stub},
};

/// Calls among which the misfortunes are.
const EARLY: usize = 24;

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Busy,
    Away,
    Cancelled,
    Fault,
    Broken,
    /// Its answer is on no wire any more.
    Lost,
    /// The replica ends while it has the call, and returns.
    Killed,
    /// The answer comes after that of the other replica, which is asked meanwhile: so there are two.
    Late,
}

pub(super) struct Fleet {
    endpoint: String,
    stubs: Vec<Arc<Mutex<Option<Stub>>>>,
    _proxies: Vec<Proxy>,
    dying: flume::Sender<Option<usize>>,
    undertaker: Option<JoinHandle<()>>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.dying.send(None);
        if let Some(undertaker) = self.undertaker.take() {
            let _ = undertaker.join();
        }
        for stub in &self.stubs {
            stub.lock().unwrap().take();
        }
    }
}

impl Fleet {
    pub(super) fn start(rng: &mut Rng, refused: &BTreeSet<u64>) -> Self {
        let replicas = rng.usize(1..=2);
        let fates = Arc::new(Mutex::new(Self::fates(rng)));
        let (dying, deaths) = flume::bounded(2);
        let late = Arc::new(Semaphore::new(0));
        let mut endpoints = Vec::new();
        let (mut stubs, mut proxies, mut scripts) = (Vec::new(), Vec::new(), Vec::new());
        for replica in 0..replicas {
            let wires = Wires::default();
            let bad: Vec<_> = refused.iter().map(|&id| (id, ItemCode::BadImage)).collect();
            let (fates, cut, dying) = (fates.clone(), wires.clone(), dying.clone());
            let late = late.clone();
            let script = move |_: usize, _: &[u64]| {
                let fate = fates.lock().unwrap().pop().flatten();
                // What was late comes with the next.
                late.add_permits(1);
                match fate {
                    None => Act::Items(bad.clone()),
                    Some(Fate::Busy) => {
                        Act::Fail(CallError::busy("full", Duration::from_millis(5)).into())
                    }
                    Some(Fate::Away) => Act::Fail(Status::unavailable("draining")),
                    Some(Fate::Cancelled) => Act::Fail(Status::cancelled("changed my mind")),
                    Some(Fate::Fault) => Act::Fail(Status::internal("out of memory")),
                    Some(Fate::Broken) => Act::Tamper(|reply| reply.meta.truncate(9)),
                    Some(Fate::Lost) => {
                        cut.cut();
                        Act::Items(bad.clone())
                    }
                    Some(Fate::Killed) => {
                        dying.send(Some(replica)).unwrap();
                        Act::Wait(Arc::new(Semaphore::new(0)))
                    }
                    Some(Fate::Late) if replicas == 1 => Act::Items(bad.clone()),
                    Some(Fate::Late) => {
                        while late
                            .try_acquire()
                            .map(tokio::sync::SemaphorePermit::forget)
                            .is_ok()
                        {}
                        Act::Late(late.clone(), bad.clone())
                    }
                }
            };
            let stub = Stub::start(script.clone());
            if rng.bool() {
                let proxy = Proxy::start(stub.addr, wires);
                endpoints.push(proxy.uri());
                proxies.push(proxy);
            } else {
                endpoints.push(stub.uri());
            }
            stubs.push(Arc::new(Mutex::new(Some(stub))));
            scripts.push(script);
        }
        let undertaker = bury(stubs.clone(), scripts, deaths);
        Self {
            endpoint: endpoints.join(","),
            stubs,
            _proxies: proxies,
            dying,
            undertaker: Some(undertaker),
        }
    }

    /// The fates of the first calls, last first. What faults, or what replicas end with, is an error
    /// when it happens to one request again and again: so there is one of each kind.
    fn fates(rng: &mut Rng) -> Vec<Option<Fate>> {
        let mut fates = vec![None; EARLY];
        for _ in 0..rng.usize(0..4) {
            let mild = [Fate::Busy, Fate::Away, Fate::Cancelled];
            fates[rng.usize(0..EARLY)] = rng.choice(mild);
        }
        if rng.bool() {
            fates[rng.usize(0..EARLY)] = rng.choice([Fate::Fault, Fate::Broken, Fate::Late]);
        }
        if rng.bool() {
            fates[rng.usize(0..EARLY)] = rng.choice([Fate::Lost, Fate::Killed]);
        }
        fates
    }

    pub(super) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }
}

/// Ends replicas, and has them return on their ports, until told to stop.
fn bury<S>(
    stubs: Vec<Arc<Mutex<Option<Stub>>>>,
    scripts: Vec<S>,
    deaths: flume::Receiver<Option<usize>>,
) -> JoinHandle<()>
where
    S: Fn(usize, &[u64]) -> Act + Clone + Send + Sync + 'static,
{
    std::thread::spawn(move || {
        while let Ok(Some(replica)) = deaths.recv() {
            let Some(stub) = stubs[replica].lock().unwrap().take() else {
                continue;
            };
            let again = Stub::start_at(stub.kill(), scripts[replica].clone());
            *stubs[replica].lock().unwrap() = Some(again);
        }
    })
}
