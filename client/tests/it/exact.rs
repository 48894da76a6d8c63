//! Random runs: whatever is interrupted, lost, late, killed or bad, what is delivered is what the plan
//! says, every place exactly once.
//!
//! `PREHEAT_CASES` is how many, 200 unless said; `PREHEAT_CASE` runs that one only, as a failure names it.

mod fleet;
mod seen;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use preheat_client::{
    BadSamples, Batch, Block, Config, DataLoader, Dataset, Error, MAX_SUBSTITUTES, SampleInfo,
    Share, Shuffle, State, Tail, Weights,
    plan::{Plan, Position, Size, Transform},
};

use self::{fleet::Fleet, seen::Seen};
use crate::{
    mix::Both,
    photos::{Photos, png},
    stub::verify,
};

/// They wait more than they work.
const AT_ONCE: usize = 8;
/// Interruptions of one run; then it goes on to its end.
const MAX_INTERRUPTIONS: usize = 4;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn random_runs_deliver_the_plan() {
    if let Some(seed) = number("PREHEAT_CASE") {
        return Case::new(seed).run(&Seen::default());
    }
    let cases = number("PREHEAT_CASES").unwrap_or(200);
    let seen = Seen::default();
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, SeqCst);
                    if seed >= cases {
                        return;
                    }
                    if catch_unwind(AssertUnwindSafe(|| Case::new(seed).run(&seen))).is_err() {
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "run each with PREHEAT_CASE: {failed:?}");
    println!("{seen:?}");
    if cases >= 100 {
        // Cases in which nothing happens show nothing.
        for (what, count) in seen.all() {
            assert!(count > 0, "no {what} in {cases} cases");
        }
    }
}

/// In the place of a geometry that means nothing.
const NOTHING: Transform = Transform {
    source: Size::new(0, 0),
    resize: Size::new(0, 0),
    crop_x: 0,
    crop_y: 0,
    flip: false,
};

/// The photos, in one case of three mixed with shards. The photos come first, so that their ids are the
/// same.
fn mixed(rng: &mut Rng, photos: Photos) -> (Both, Config) {
    if rng.u8(0..3) > 0 {
        let config = photos.config("");
        return (Both::new(photos, [0; 2]), config);
    }
    let both = Both::new(photos, [rng.u8(1..=6), rng.u8(1..=6)]);
    let mut share = || *rng.choice(&[0.25, 0.5, 1.0, 2.0, 2.5]).unwrap();
    let shares = [share(), share()];
    let kind = if rng.bool() {
        Share::Repeats
    } else {
        Share::Weight
    };
    let config = both.config(shares.map(kind), "");
    (both, config)
}

/// What is delivered, in what order, and how far ahead.
fn order(rng: &mut Rng, config: &mut Config, samples: u64) {
    if rng.u8(0..3) == 0 {
        let weight = |_| *rng.choice(&[0.25, 0.5, 1.0, 1.5, 2.0]).unwrap();
        config.weights = Weights::Given((0..samples).map(weight).collect());
    }
    config.global_batch = *rng.choice(&[1, 2, 3, 4, 6, 8]).unwrap();
    config.seed = rng.u64(..);
    config.epochs = Some(rng.u64(1..=2));
    config.target_area = *rng.choice(&[16 * 16, 24 * 24, 32 * 32]).unwrap();
    let orders = [
        Shuffle::Full,
        Shuffle::Blocked(Block::Shards(1)),
        Shuffle::None,
    ];
    config.shuffle = rng.choice(orders).unwrap();
    config.tail = *rng.choice(&[Tail::Pad, Tail::Short, Tail::Drop]).unwrap();
    config.flip = *rng.choice(&[0.0, 0.5]).unwrap();
    config.caption_dropout = *rng.choice(&[0.0, 0.3]).unwrap();
    config.chunk_items = *rng.choice(&[None, Some(1), Some(2), Some(3)]).unwrap();
    config.max_batches_ahead = rng.u32(1..=8);
    config.window_bytes = *rng.choice(&[1, 8 << 10, 64 << 10, 1 << 20]).unwrap();
    // So that what never comes is an error, and no hang.
    config.attempt_timeout = Duration::from_secs(20);
    config.patience = Duration::from_secs(30);
}

/// What travels with a sample: captions with those that are in shards.
fn captions(key: &str, valid: bool) -> Vec<(Arc<str>, Bytes)> {
    let number = key.strip_prefix("tars/").filter(|_| valid);
    let number = number.map(|key| key[2..].parse::<u8>().unwrap());
    let caption = number.map(|number| ("txt".into(), format!("number {number}").into()));
    caption.into_iter().collect()
}

struct Case {
    rng: Rng,
    /// The files live as long as the case.
    _both: Both,
    config: Config,
    dataset: Arc<Dataset>,
    /// Whatever the index, the disk or the replicas say is bad.
    bad: BTreeSet<u64>,
    _fleet: Fleet,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let photos = Photos::new(0);
        let samples = rng.u64(1..=40);
        for id in 0..samples {
            let (width, height) = *[(40, 30), (30, 40), (36, 36), (64, 33)]
                .get(rng.usize(0..4))
                .unwrap();
            photos.write(&format!("{id:03}.png"), &png(id as u8, width, height));
        }
        let policy = *rng
            .choice(&[BadSamples::Fail, BadSamples::Substitute, BadSamples::Skip])
            .unwrap();
        let mut some = |most: u64| -> BTreeSet<u64> {
            (0..rng.u64(0..=most))
                .map(|_| rng.u64(0..samples))
                .collect()
        };
        // Under Fail nothing starts with samples that the index knows to be bad.
        let junk = some(if policy == BadSamples::Fail { 0 } else { 2 });
        let (gone, refused) = (some(2), some(3));
        if junk.len() as u64 == samples {
            return Self::new(seed + (1 << 32));
        }
        for id in &junk {
            photos.write(&format!("{id:03}.png"), b"no image");
        }
        let (both, mut config) = mixed(&mut rng, photos);
        let dataset = Dataset::open(&config, BadSamples::Substitute, &|_| {}).unwrap();
        for id in gone.difference(&junk) {
            std::fs::remove_file(dataset.path(*id).unwrap()).unwrap();
        }
        let fleet = Fleet::start(&mut rng, &refused);
        config.endpoint = fleet.endpoint();
        config.bad_samples = policy;
        order(&mut rng, &mut config, dataset.len());
        Self {
            rng,
            _both: both,
            config,
            dataset: Arc::new(dataset),
            bad: &(&junk | &gone) | &refused,
            _fleet: fleet,
        }
    }

    fn run(mut self, seen: &Seen) {
        let epochs = self.config.epochs.unwrap();
        let mut at = None;
        for interruption in 0.. {
            let Some(mut ranks) = self.ranks(at.as_ref()) else {
                return;
            };
            let plan = ranks[0].plan().clone();
            if let Some(state) = &at {
                assert!(ranks.iter().all(|rank| rank.state() == *state));
            }
            let steps = if interruption < MAX_INTERRUPTIONS && self.rng.bool() {
                self.rng.u64(0..6)
            } else {
                u64::MAX
            };
            let mut failed = None;
            for _ in 0..steps {
                let before = ranks[0].state();
                if before.epoch == epochs {
                    assert!(ranks[0].next_batch().unwrap().is_none());
                    seen.end(&ranks);
                    return;
                }
                let taken: Result<Vec<_>, _> =
                    ranks.iter_mut().map(DataLoader::next_batch).collect();
                match taken {
                    Ok(parts) => {
                        seen.step(&parts);
                        self.check(&plan, &before, &parts, &ranks);
                    }
                    Err(error) => {
                        seen.errors.fetch_add(1, SeqCst);
                        self.forgive(&plan, &before, &error);
                        failed = Some(before);
                        break;
                    }
                }
            }
            let state = failed.unwrap_or_else(|| ranks[0].state());
            at = Some(State::from_json(&state.to_json()).unwrap());
            seen.interruptions.fetch_add(1, SeqCst);
            seen.end(&ranks);
            // With whatever is under way.
            drop(ranks);
        }
    }

    /// The loaders of a world of random size; none where no batch can be formed.
    fn ranks(&mut self, at: Option<&State>) -> Option<Vec<DataLoader>> {
        let batch = self.config.global_batch;
        let sizes: Vec<_> = (1..=batch.min(4))
            .filter(|&world| batch.is_multiple_of(world))
            .collect();
        self.config.world_size = *self.rng.choice(&sizes).unwrap();
        self.config.resume = at.cloned();
        let mut ranks = Vec::new();
        for rank in 0..self.config.world_size {
            self.config.rank = rank;
            match DataLoader::with_dataset(self.config.clone(), self.dataset.clone()) {
                Ok(loader) => ranks.push(loader),
                Err(Error::Config { field, .. }) => {
                    assert_eq!((field, self.config.tail), ("global_batch", Tail::Drop));
                    return None;
                }
                Err(error) => panic!("{error}"),
            }
        }
        Some(ranks)
    }

    /// Holds one step of all ranks against the plan.
    fn check(&self, plan: &Plan, at: &State, parts: &[Option<Batch>], ranks: &[DataLoader]) {
        if at.step == plan.steps() {
            assert!(parts.iter().all(Option::is_none), "the end of an epoch");
            return;
        }
        let mut samples = Vec::new();
        for (part, rank) in parts.iter().zip(ranks) {
            let part = part.as_ref().expect("a batch before the end of the epoch");
            assert_eq!((part.epoch, part.step), (at.epoch, at.step));
            assert!(!part.replayed);
            verify(part, rank);
            samples.extend(part.samples.clone());
        }
        let planned = plan.global_batch(at.epoch, at.step);
        let expected = planned
            .positions
            .iter()
            .map(|&position| self.expected(plan, at, position));
        let expected: Option<Vec<_>> = expected.collect();
        let expected = expected.expect("a place that nothing can fill was filled");
        // What is masked has no geometry.
        let plain = |mut sample: SampleInfo| {
            if !sample.valid {
                sample.transform = NOTHING;
                sample.micro_conditioning = NOTHING.micro_conditioning(planned.size);
            }
            sample
        };
        let samples: Vec<_> = samples.into_iter().map(plain).collect();
        let expected: Vec<_> = expected.into_iter().map(plain).collect();
        assert_eq!(samples, expected);
    }

    /// What must fill a place; `None` where that is an error.
    fn expected(&self, plan: &Plan, at: &State, position: Position) -> Option<SampleInfo> {
        let epoch = at.epoch;
        let planned = plan.global_batch(epoch, at.step);
        let info = |id, substitute_of, valid| {
            let source = self.dataset.size(id);
            let drawn = source.and_then(|source| plan.transform(epoch, id, source, planned.size));
            SampleInfo {
                id,
                key: self.dataset.key(id).into_owned(),
                source: self.dataset.source_of(id),
                padding: position.padding,
                substitute_of,
                valid,
                micro_conditioning: drawn.unwrap_or(NOTHING).micro_conditioning(planned.size),
                caption_dropped: plan.caption_dropped((epoch, id), self.config.caption_dropout),
                transform: drawn.unwrap_or(NOTHING),
                seed: plan.posterior_seed(epoch, id),
                parts: captions(&self.dataset.key(id), valid),
                clip: None,
            }
        };
        if !self.bad.contains(&position.sample) {
            return Some(info(position.sample, None, true));
        }
        match self.config.bad_samples {
            BadSamples::Fail => None,
            BadSamples::Skip => Some(info(position.sample, None, false)),
            BadSamples::Substitute => plan
                .following(epoch, planned.bucket, position.place)
                .take(MAX_SUBSTITUTES as usize)
                .find(|id| !self.bad.contains(id))
                .map(|id| info(id, Some(position.sample), true)),
        }
    }

    /// An error must be due to a bad sample of the batch that is not delivered. The run is then resumed
    /// with a policy that can do without it.
    fn forgive(&mut self, plan: &Plan, at: &State, error: &Error) {
        let planned = plan.global_batch(at.epoch, at.step);
        let named = |key: &str| {
            let mut positions = planned.positions.iter();
            positions.any(|&position| {
                *self.dataset.key(position.sample) == *key
                    && self.expected(plan, at, position).is_none()
            })
        };
        match (error, self.config.bad_samples) {
            (Error::BadSample { key, .. }, BadSamples::Fail)
            | (Error::NoSubstitute { key, .. }, BadSamples::Substitute) => {
                assert!(named(key), "{error}");
            }
            _ => panic!("{error}"),
        }
        let last = self.config.bad_samples == BadSamples::Substitute || self.rng.bool();
        self.config.bad_samples = if last {
            BadSamples::Skip
        } else {
            BadSamples::Substitute
        };
    }
}
