use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::plan::{
    Block, Buckets, Crop, PlannedBatch, Size, SmallBuckets, Tail, TransformSpec, Weights,
};

/// As many images of all shapes; every 13th cannot be read.
struct Many {
    count: u64,
    starts: Vec<u64>,
    fingerprint: &'static str,
    looks: AtomicU64,
}

impl Many {
    fn new(count: u64, fingerprint: &'static str) -> Self {
        Self {
            count,
            starts: (0..count).step_by(101).collect(),
            fingerprint,
            looks: AtomicU64::new(0),
        }
    }
}

impl Samples for Many {
    fn count(&self) -> u64 {
        self.count
    }

    fn size(&self, id: u64) -> Option<Size> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let side = |by: u64| 64 + (id * by % 400) as u32;
        (id % 13 != 5).then(|| Size::new(side(37), side(91)))
    }

    fn shard_starts(&self) -> &[u64] {
        &self.starts
    }

    fn fingerprint(&self) -> &str {
        self.fingerprint
    }
}

fn spec(shuffle: Shuffle) -> PlanSpec {
    PlanSpec {
        seed: 3,
        global_batch: 7,
        shuffle,
        tail: Tail::Pad,
        buckets: Buckets::Aspect {
            area: 256 * 256,
            step: 64,
            max_aspect: 2.0,
        },
        small_buckets: SmallBuckets::Merge { below: 20 },
        subset: Subset::Range { start: 3, end: 990 },
        repeats: 1,
        weights: Weights::Equal,
        shares: None,
        transform: TransformSpec {
            crop: Crop::Center,
            flip: 0.0,
        },
        clips: None,
    }
}

fn shuffles() -> [Shuffle; 3] {
    [
        Shuffle::Full,
        Shuffle::Blocked(Block::Shards(2)),
        Shuffle::Given([5, 8, 700, 8, 1].into()),
    ]
}

/// The spec that goes with a shuffle.
fn fitting(shuffle: Shuffle) -> PlanSpec {
    let given = matches!(shuffle, Shuffle::Given(_));
    let mut spec = spec(shuffle);
    if given {
        spec.subset = Subset::All;
    }
    spec
}

fn epoch(plan: &Plan) -> Vec<PlannedBatch> {
    (0..plan.steps())
        .map(|step| plan.global_batch(2, step))
        .collect()
}

/// What is kept is what would be made in memory.
fn open(spec: &PlanSpec, samples: &Many, index: &Path) -> Vec<PlannedBatch> {
    let layout = kept(spec, samples, index, &|_, _| {}).unwrap();
    let plan = Plan::from_layout(spec.clone(), layout).unwrap();
    let fresh = Plan::new(spec.clone(), samples).unwrap();
    assert_eq!(plan.report(), fresh.report());
    assert_eq!(plan.unusable(), fresh.unusable());
    let batches = epoch(&plan);
    assert_eq!(batches, epoch(&fresh));
    batches
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_was_laid_out_is_not_looked_at_again() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("photos.index");
    let samples = Many::new(1000, "one");
    for shuffle in shuffles() {
        let spec = fitting(shuffle);
        let first = open(&spec, &samples, &index);
        samples.looks.store(0, Ordering::Relaxed);
        let layout = kept(&spec, &samples, &index, &|_, _| {}).unwrap();
        assert_eq!(samples.looks.load(Ordering::Relaxed), 0);
        assert_eq!(epoch(&Plan::from_layout(spec, layout).unwrap()), first);
    }
    let files = files(dir.path());
    assert_eq!(files.len(), 3, "one for each, no scraps: {files:?}");
}

#[test]
fn seeds_and_batches_share_a_layout_and_rules_do_not() {
    let samples = Many::new(1000, "one");
    let base = spec(Shuffle::Full);
    let same = |change: fn(&mut PlanSpec)| {
        let mut other = base.clone();
        change(&mut other);
        key(&other, &samples) == key(&base, &samples)
    };
    assert!(same(|spec| spec.seed = 4));
    assert!(same(|spec| spec.global_batch = 64));
    assert!(same(|spec| spec.tail = Tail::Drop));
    assert!(same(|spec| spec.repeats = 3));
    let weights = |weight: fn(u32) -> f32| Weights::Given((0..1000).map(weight).collect());
    let with = |weights| PlanSpec {
        weights,
        ..base.clone()
    };
    let halves = with(weights(|id| (id % 2) as f32 + 0.5));
    assert_eq!(key(&halves, &samples), key(&base, &samples));
    let zeros = with(weights(|id| (id % 2) as f32));
    let others = with(weights(|id| (id % 3) as f32));
    assert_ne!(key(&zeros, &samples), key(&base, &samples));
    assert_ne!(key(&zeros, &samples), key(&others, &samples));
    assert!(!same(|spec| spec.subset = Subset::All));
    assert!(!same(|spec| spec.small_buckets = SmallBuckets::Keep));
    assert!(!same(
        |spec| spec.shuffle = Shuffle::Blocked(Block::Shards(2))
    ));
    assert!(!same(
        |spec| spec.buckets = Buckets::Sizes(vec![Size::new(64, 64)])
    ));
    assert_ne!(key(&base, &Many::new(1000, "two")), key(&base, &samples));
}

#[test]
fn weights_go_with_what_was_laid_out() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("photos.index");
    let samples = Many::new(1000, "one");
    for shuffle in [Shuffle::Full, Shuffle::Blocked(Block::Shards(2))] {
        let plain = spec(shuffle);
        let weighted = PlanSpec {
            weights: Weights::Given((0..1000).map(|id| (id % 7) as f32 / 2.0).collect()),
            ..plain.clone()
        };
        assert_ne!(
            open(&weighted, &samples, &index),
            open(&plain, &samples, &index)
        );
    }
}

#[test]
fn damaged_files_are_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("photos.index");
    let samples = Many::new(1000, "one");
    let spec = spec(Shuffle::Blocked(Block::Shards(2)));
    let whole = open(&spec, &samples, &index);
    let file = files(dir.path()).remove(0);
    let bytes = fs::read(&file).unwrap();
    let replace = |bytes: &[u8]| {
        // Never in place: it may be mapped.
        fs::remove_file(&file).unwrap();
        fs::write(&file, bytes).unwrap();
    };
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    let longer = [&bytes[..], &[0; 4]].concat();
    for damage in [
        &bytes[..bytes.len() - 1],
        &bytes[..30],
        &[],
        &flipped,
        &longer,
    ] {
        replace(damage);
        assert!(read(&file, &key(&spec, &samples)).is_err());
        assert_eq!(open(&spec, &samples, &index), whole);
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
    assert!(read(&file, "another key").is_err());
}

#[test]
fn layouts_of_what_the_index_was_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("photos.index");
    let other = dir.path().join("other.index");
    let mine = dir.path().join("photos.index.plan-notes");
    fs::write(&mine, "not a layout").unwrap();
    open(&spec(Shuffle::Full), &Many::new(1000, "one"), &index);
    open(&spec(Shuffle::Full), &Many::new(1000, "one"), &other);
    assert_eq!(files(dir.path()).len(), 3);
    open(&spec(Shuffle::Full), &Many::new(1000, "two"), &index);
    assert_eq!(files(dir.path()).len(), 3);
    assert!(mine.exists());
}

#[test]
fn without_a_place_for_the_file_it_stays_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let samples = Many::new(1000, "one");
    for shuffle in shuffles() {
        open(
            &fitting(shuffle),
            &samples,
            &dir.path().join("gone/photos.index"),
        );
    }
    assert!(files(dir.path()).is_empty());
}

#[test]
fn small_datasets_need_no_file_and_progress_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("photos.index");
    let samples = Many::new(1000, "one");
    let last = AtomicU64::new(0);
    let watch = |done: u64, all: u64| {
        assert!(done <= all && all == 1000);
        last.store(done, Ordering::Relaxed);
    };
    Plan::open(spec(Shuffle::Full), &samples, &index, &watch).unwrap();
    assert_eq!(last.load(Ordering::Relaxed), 1000);
    assert!(files(dir.path()).is_empty());
}
