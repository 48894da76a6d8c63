//! Measurements, not tests of correctness: they need a machine with nothing else to do.
//! `cargo test --release -p preheat-server --no-default-features -- --ignored --nocapture
//! --test-threads 1 figures`

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use preheat_models::{
    Encoder, Error, Moments, Pixels, Spec,
    synthetic::{Config, Synthetic},
};
use preheat_server::Model;

use crate::{
    harness::{Ask, Replica, soon},
    reload::Shelf,
};

/// When a device worked.
type Work = Arc<Mutex<Vec<[Instant; 2]>>>;

/// A device of 100 ms a megapixel that keeps a record.
struct Recorded {
    inner: Synthetic,
    work: Work,
}

impl Encoder for Recorded {
    fn spec(&self) -> &Spec {
        self.inner.spec()
    }

    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error> {
        let start = Instant::now();
        let moments = self.inner.encode(pixels);
        self.work.lock().unwrap().push([start, Instant::now()]);
        moments
    }
}

/// Starts callers that encode eight pictures of 256x256 a call, until told to stop; how long each
/// call took.
fn callers(
    replica: &Replica,
    count: usize,
    stop: &Arc<AtomicBool>,
) -> Vec<tokio::task::JoinHandle<Vec<Duration>>> {
    let caller = |_| {
        let (mut client, stop) = (replica.client(), Arc::clone(stop));
        tokio::spawn(async move {
            let ask = (0..8).fold(Ask::new(256, 256), Ask::grey);
            let mut took = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let start = Instant::now();
                ask.send(&mut client).await.unwrap();
                took.push(start.elapsed());
            }
            took
        })
    };
    (0..count).map(caller).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn a_device_under_load_is_idle_less_than_3_percent() {
    let work = Work::default();
    let config = Config {
        ms_per_megapixel: 100,
        ..Config::default()
    };
    let encoder = Recorded {
        inner: Synthetic::new(config),
        work: Arc::clone(&work),
    };
    let model = Model::new("m", vec![Box::new(encoder)]);
    let replica = Replica::with_models(&[], vec![model]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers = callers(&replica, 6, &stop);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let work = work.lock().unwrap().clone();
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        soon(caller).await.unwrap();
    }
    let [first, last] = [work[0][0], work[work.len() - 1][1]];
    let busy: Duration = work.iter().map(|[start, end]| *end - *start).sum();
    let idle = 1.0 - busy.as_secs_f64() / (last - first).as_secs_f64();
    println!("{} batches, idle {:.2} %", work.len(), idle * 100.0);
    assert!(idle < 0.03, "idle {:.2} %", idle * 100.0);
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn twenty_changes_under_load_cost_no_latency_and_no_memory() {
    let shelf = Shelf::default();
    let (replica, reloader) = shelf.replica(1, &["--retire-after", "0"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let usual = callers(&replica, 4, &stop);
    tokio::time::sleep(Duration::from_secs(10)).await;
    stop.store(true, Ordering::SeqCst);
    let usual = p99(usual).await;

    let mut memory = Vec::new();
    let stop = Arc::new(AtomicBool::new(false));
    let changing = callers(&replica, 4, &stop);
    for version in 1..=20 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        shelf.set(version);
        soon(reloader.reload()).await.unwrap();
        memory.push(resident());
    }
    stop.store(true, Ordering::SeqCst);
    let changing = p99(changing).await;
    // By then the allocator has all that it will need.
    let [half, all] = [memory[9], memory[19]];
    println!("p99, longest: usually {usual:?}, with changes {changing:?}");
    println!("resident: {half} KiB after ten changes, {all} KiB after twenty");
    assert!(changing[1] <= usual[0] * 2, "{changing:?} > 2 * {usual:?}");
    assert!(all < half + half / 10, "{half} KiB → {all} KiB");
}

/// The 99th percentile, and the longest.
async fn p99(callers: Vec<tokio::task::JoinHandle<Vec<Duration>>>) -> [Duration; 2] {
    let mut all = Vec::new();
    for caller in callers {
        all.extend(soon(caller).await.unwrap());
    }
    all.sort_unstable();
    [all[all.len() * 99 / 100], all[all.len() - 1]]
}

/// Memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let digits = line.unwrap().trim().trim_end_matches(" kB");
    digits.parse().unwrap()
}
