//! What one decision of the balancer costs, and one replica that has nothing to do.
//!
//! A request is submitted, sent, answered, and its answer reported: all calls of the core that one
//! request takes, at a light load, near the knee, and with more waiting than can be done. Only the time
//! inside the core counts, and one iteration is one request.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use peak_alloc::PeakAlloc;
use preheat_client::balance::{
    Action, Ask, Core, Outcome, ReplicaId, RequestId, Served, Settings, Time, Verdict,
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const REPLICAS: usize = 20_000;
const SPEEDS: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
/// Output pixels a second of speed 1.
const UNIT: f64 = 2.6e6;
const SIDES: [u64; 4] = [256, 512, 1024, 2048];
/// Bytes that a replica without work may take.
const MOST_BYTES: usize = 2048;
/// Requests that wait where there are more than can be done.
const WAITING: usize = 60_000;

/// A fleet that answers on time.
struct Fleet {
    core: Core,
    now: Time,
    numbers: HashMap<ReplicaId, usize>,
    free: Vec<Time>,
    pixels: HashMap<RequestId, u64>,
    calls: BinaryHeap<Reverse<(Time, RequestId, ReplicaId)>>,
    actions: Vec<Action>,
    rng: fastrand::Rng,
    /// Time inside the core.
    spent: Duration,
}

fn served() -> Arc<Served> {
    Arc::new(Served {
        models: vec![("vae".to_owned(), vec!["1".to_owned()])],
    })
}

fn joined(core: &mut Core) -> Vec<ReplicaId> {
    let served = served();
    let join = |number| {
        let id = core.join(Time::ZERO, &format!("http://10.0.0.1:{number}"));
        core.up(Time::ZERO, id, served.clone());
        id
    };
    (0..REPLICAS).map(join).collect()
}

impl Fleet {
    fn new() -> Self {
        let mut core = Core::new(Settings::default());
        let numbers = joined(&mut core).into_iter().zip(0..).collect();
        Self {
            core,
            now: Time::ZERO,
            numbers,
            free: vec![Time::ZERO; REPLICAS],
            pixels: HashMap::new(),
            calls: BinaryHeap::new(),
            actions: Vec::new(),
            rng: fastrand::Rng::with_seed(0),
            spent: Duration::ZERO,
        }
    }

    /// Requests that wait for a replica.
    fn waiting(&self) -> usize {
        self.pixels.len().saturating_sub(self.calls.len())
    }

    /// Time inside the core while something is done.
    fn measure(&mut self, does: impl FnOnce(&mut Self)) -> Duration {
        let before = self.spent;
        does(self);
        self.spent - before
    }

    fn submit(&mut self) {
        let side = SIDES[self.rng.usize(..SIDES.len())];
        let ask = Ask {
            model: "vae",
            fingerprint: "",
            trainer: ["a", "b", "c", "d"][self.rng.usize(..4)],
            weight: 1.0,
            pixels: side * side,
            needed_at: self.now + Duration::from_secs(4),
            ready: None,
        };
        let began = Instant::now();
        let id = self.core.submit(self.now, &ask).expect("there is room");
        self.spent += began.elapsed();
        self.pixels.insert(id, side * side);
        self.advance();
    }

    fn advance(&mut self) {
        let began = Instant::now();
        self.core.advance(self.now, &mut self.actions);
        self.spent += began.elapsed();
        for action in self.actions.drain(..) {
            let Action::Send { request, replica } = action else {
                continue;
            };
            let number = self.numbers[&replica];
            let rate = SPEEDS[number % SPEEDS.len()] * UNIT;
            let seconds = self.pixels[&request] as f64 / rate;
            let free = &mut self.free[number];
            *free = (*free).max(self.now) + Duration::from_secs_f64(seconds);
            self.calls.push(Reverse((*free, request, replica)));
        }
    }

    /// Goes to the next answer or wake-up, until `until` at most. Whether there was an answer.
    fn step(&mut self, until: Time) -> bool {
        let answer = self.calls.peek().map(|Reverse((at, ..))| *at);
        let began = Instant::now();
        let wake = self.core.next_wake();
        self.spent += began.elapsed();
        let wake = wake.map(|at| at.max(self.now));
        let answered = answer.is_some_and(|at| at <= until && wake.is_none_or(|wake| at <= wake));
        if !answered {
            let micro = Duration::from_micros(1);
            self.now = wake
                .unwrap_or(until)
                .clamp(self.now + micro, until.max(self.now + micro));
            self.advance();
            return false;
        }
        if let Some(Reverse((at, request, replica))) = self.calls.pop() {
            self.now = at;
            let began = Instant::now();
            let core = &mut self.core;
            let verdict = core.finished(at, request, replica, Outcome::Answered);
            self.spent += began.elapsed();
            // A hedge may have been faster.
            let first = matches!(verdict, Verdict::Deliver);
            self.advance();
            return first && self.pixels.remove(&request).is_some();
        }
        false
    }

    /// So many requests at this part of what the fleet can do.
    fn open(&mut self, load: f64, requests: usize) {
        let mean = SIDES.iter().map(|side| side * side).sum::<u64>() as f64 / SIDES.len() as f64;
        let speed: f64 = SPEEDS.iter().sum::<f64>() / SPEEDS.len() as f64 * UNIT;
        let pause = Duration::from_secs_f64(mean / (load * speed * REPLICAS as f64));
        for _ in 0..requests {
            let next = self.now + pause;
            while self.now < next {
                self.step(next);
            }
            self.submit();
        }
    }

    /// So many answers, each followed by another request.
    fn closed(&mut self, requests: usize) {
        for _ in 0..requests {
            while !self.step(Time::MAX) {}
            self.submit();
        }
    }
}

/// Bytes of one of many replicas that are up and have nothing to do, with one group that they serve.
fn memory() {
    let before = ALLOCATOR.current_usage();
    let mut core = Core::new(Settings::default());
    let ids = joined(&mut core);
    core.advance(Time::ZERO, &mut Vec::new());
    drop(ids);
    let bytes = (ALLOCATOR.current_usage() - before) / REPLICAS;
    println!("memory: {bytes} bytes an idle replica, of {REPLICAS}");
    assert!(
        bytes <= MOST_BYTES,
        "{bytes} bytes, must be at most {MOST_BYTES}"
    );
    black_box(core);
}

fn decisions(criterion: &mut Criterion) {
    memory();
    let mut group = criterion.benchmark_group("one request, 20,000 replicas");
    group.sample_size(20);
    for (name, load) in [("light load", 0.3), ("95 % load", 0.95)] {
        let mut fleet = Fleet::new();
        // Every replica is known, and the queue is as long as it gets.
        fleet.open(load, 30 * REPLICAS);
        group.bench_function(name, |bench| {
            bench.iter_custom(|requests| fleet.measure(|fleet| fleet.open(load, requests as usize)))
        });
    }
    let mut fleet = Fleet::new();
    // The fleet takes what it has room for; the rest waits.
    fleet.open(2.0, REPLICAS);
    fleet.closed(10 * REPLICAS);
    while fleet.waiting() < WAITING {
        fleet.submit();
    }
    group.bench_function("saturated", |bench| {
        bench.iter_custom(|requests| fleet.measure(|fleet| fleet.closed(requests as usize)))
    });
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
