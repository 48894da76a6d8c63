//! A plan over a hundred million samples: laid out, opened, resumed, walked through.
//!
//! The first layout is made by a process of its own, so that what opening it costs in time and
//! memory is not warmed or hidden by having made it. `PREHEAT_PLAN_SAMPLES` takes another number.

use std::{
    env,
    fs::{self, File},
    hint::black_box,
    io,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use criterion::{BatchSize, Criterion, Throughput};
use preheat_client::plan::{
    Block, Buckets, Crop, Plan, PlanSpec, Purpose, Samples, Share, Shares, Shuffle, Size,
    SmallBuckets, Subset, Tail, TransformSpec, Weights, below, draw,
};

const SAMPLES: u64 = 100_000_000;
/// As in tar shards of about a gigabyte.
const SHARD: usize = 10_000;
const GLOBAL_BATCH: u32 = 2048;
/// Set in the process that lays out: where.
const LAY_OUT: &str = "PREHEAT_PLAN_LAY_OUT";
/// The dataset's index that a layout belongs to, as a name.
const INDEX: &str = "index";
/// What opening and resuming may take.
const OPEN: (Duration, u64) = (Duration::from_millis(50), 64 << 20);
const RESUME: Duration = Duration::from_millis(1);

/// Sizes drawn on the fly: three in four of a few usual ones, the rest any.
struct Synthetic {
    count: u64,
    starts: Vec<u64>,
    /// Of two sources.
    ends: [u64; 2],
}

impl Synthetic {
    fn new() -> Self {
        let count = env::var("PREHEAT_PLAN_SAMPLES").ok();
        let count = count
            .and_then(|count| count.parse().ok())
            .unwrap_or(SAMPLES);
        Self {
            count,
            ends: [count / 3 / SHARD as u64 * SHARD as u64, count],
            starts: (0..count).step_by(SHARD).collect(),
        }
    }
}

impl Samples for Synthetic {
    fn count(&self) -> u64 {
        self.count
    }

    fn size(&self, id: u64) -> Option<Size> {
        const USUAL: [(u32, u32); 8] = [
            (1024, 1024),
            (1920, 1080),
            (1080, 1920),
            (4000, 3000),
            (3000, 4000),
            (1200, 800),
            (800, 1200),
            (512, 512),
        ];
        let bits = draw(1, 0, id, Purpose::Order);
        if bits & 3 == 0 {
            let side = |bits: u64| 256 + below(bits, 4000);
            return Some(Size::new(side(bits), side(bits.rotate_left(32))));
        }
        let (width, height) = USUAL[below(bits, 8) as usize];
        (bits & 0xff00 != 0).then(|| Size::new(width, height))
    }

    fn shard_starts(&self) -> &[u64] {
        &self.starts
    }

    fn source_ends(&self) -> &[u64] {
        &self.ends
    }

    fn fingerprint(&self) -> &str {
        "synthetic"
    }
}

/// What is measured: names, orders, and how the samples are weighted.
fn rows() -> [(&'static str, Shuffle, Delivery); 5] {
    let blocked = || Shuffle::Blocked(Block::Shards(32));
    [
        ("full", Shuffle::Full, Delivery::Equal),
        ("blocked", blocked(), Delivery::Equal),
        ("full, shares", Shuffle::Full, Delivery::Shares),
        ("full, weights", Shuffle::Full, Delivery::Weights),
        ("blocked, weights", blocked(), Delivery::Weights),
    ]
}

/// How often samples are delivered.
#[derive(Clone, Copy, PartialEq)]
enum Delivery {
    Equal,
    /// Two sources, by repeats.
    Shares,
    /// All different.
    Weights,
}

fn spec(shuffle: Shuffle, delivery: Delivery, count: u64) -> PlanSpec {
    let weights = match delivery {
        Delivery::Weights => {
            let weight = |id| 0.01 + below(draw(2, 0, id, Purpose::Order), 1 << 20) as f32 / 4e5;
            Weights::Given((0..count).map(weight).collect())
        }
        Delivery::Equal | Delivery::Shares => Weights::Equal,
    };
    let shares = (delivery == Delivery::Shares).then(|| Shares {
        shares: vec![Share::Repeats(2.5), Share::Repeats(0.7)],
        epoch_samples: None,
    });
    PlanSpec {
        seed: 7,
        global_batch: GLOBAL_BATCH,
        shuffle,
        tail: Tail::Pad,
        buckets: Buckets::Aspect {
            area: 1 << 20,
            step: 64,
            max_aspect: 2.0,
        },
        small_buckets: SmallBuckets::Keep,
        subset: Subset::All,
        repeats: 1,
        weights,
        shares,
        transform: TransformSpec {
            crop: Crop::Center,
            flip: 0.5,
        },
        clips: None,
    }
}

fn open(samples: &Synthetic, spec: PlanSpec, index: &Path) -> Plan {
    let plan = Plan::open(spec, samples, index, &|_, _| {});
    plan.expect("a plan of synthetic sizes")
}

/// Bytes of memory that this process holds, mapped files included.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Bytes that came from a disk for this process, by reads and by page faults.
fn from_disk() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("read_bytes:"));
    line.and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}

/// Has the page cache hold what lies in a folder: kernels that reclaim what nobody looks at would
/// otherwise have dropped some of what was laid out first by the time that it is opened.
fn warm(folder: &Path) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        io::copy(&mut File::open(file?.path())?, &mut io::sink())?;
    }
    Ok(())
}

/// Has it hold none of it.
fn chill(folder: &Path) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        let file = File::open(file?.path())?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

/// The first look-up in a plan: how long it took, and what it had from a disk.
fn first(plan: &Plan) -> (Duration, u64) {
    let (start, read) = (Instant::now(), from_disk());
    black_box(plan.rank_slice(3, plan.steps() / 2, (1, 8)));
    (start.elapsed(), from_disk() - read)
}

fn main() {
    let samples = Synthetic::new();
    if let Ok(folder) = env::var(LAY_OUT) {
        for (name, shuffle, delivery) in rows() {
            let spec = spec(shuffle, delivery, samples.count);
            let start = Instant::now();
            let folder = Path::new(&folder).join(name);
            fs::create_dir(&folder).expect("a folder for a layout");
            open(&samples, spec, &folder.join(INDEX));
            println!("{name}: laid out in {:.1?}", start.elapsed());
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for the layouts");
    let made = Command::new(env::current_exe().expect("this program"))
        .env(LAY_OUT, folder.path())
        .status();
    assert!(made.is_ok_and(|made| made.success()));
    let mut criterion = Criterion::default().configure_from_args();
    println!("{} samples", samples.count);
    for (name, shuffle, delivery) in rows() {
        let spec = spec(shuffle, delivery, samples.count);
        let folder = folder.path().join(name);
        let index = folder.join(INDEX);
        chill(&folder).expect("the layout");
        let (cold, read) = first(&open(&samples, spec.clone(), &index));
        warm(&folder).expect("the layout");
        let (start, before) = (Instant::now(), resident());
        let plan = open(&samples, spec, &index);
        let (opened, grown) = (start.elapsed(), resident().saturating_sub(before));
        let (resumed, _) = first(&plan);
        println!(
            "{name}: opened in {opened:.1?} with {:.1} MiB, first resume in {resumed:.1?}; from a disk, \
             {} KiB of it, in {cold:.1?}",
            grown as f64 / f64::from(1 << 20),
            read >> 10,
        );
        let late = [
            // A list of weights is added up when it is opened.
            (
                opened > OPEN.0 && delivery != Delivery::Weights,
                "opening is too slow",
            ),
            (grown > OPEN.1, "opening takes too much memory"),
            (resumed > RESUME, "resuming is too slow"),
        ];
        late.iter()
            .filter(|late| late.0)
            .for_each(|late| println!("{name}: {}", late.1));
        measure(&mut criterion, name, &plan);
    }
    criterion.final_summary();
}

fn measure(criterion: &mut Criterion, name: &str, plan: &Plan) {
    let mut group = criterion.benchmark_group(name);
    let mut at = 0;
    group.bench_function("resume", |bencher| {
        let next = || {
            at += 1;
            let bits = draw(9, 0, at, Purpose::Schedule);
            // Another epoch each time: nothing can be left over from the one before.
            (at, bits % plan.steps())
        };
        let resume = |(epoch, step)| plan.rank_slice(epoch, step, (3, 8));
        bencher.iter_batched(next, resume, BatchSize::SmallInput);
    });
    group.throughput(Throughput::Elements(u64::from(GLOBAL_BATCH)));
    let mut step = 0;
    group.bench_function("positions", |bencher| {
        bencher.iter(|| {
            step = (step + 1) % plan.steps();
            plan.global_batch(0, step)
        });
    });
    group.finish();
}
