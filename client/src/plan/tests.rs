use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

mod cases;
mod clips;
mod weighted;

fn spec(global_batch: u32, tail: Tail) -> PlanSpec {
    PlanSpec {
        seed: 1,
        global_batch,
        shuffle: Shuffle::Full,
        tail,
        buckets: Buckets::Aspect {
            area: 256 * 256,
            step: 32,
            max_aspect: 2.0,
        },
        small_buckets: SmallBuckets::Keep,
        subset: Subset::All,
        repeats: 1,
        weights: Weights::Equal,
        shares: None,
        transform: TransformSpec {
            crop: Crop::Random,
            flip: 0.5,
        },
        clips: None,
    }
}

/// A dataset of sizes alone.
#[derive(Clone, Debug)]
pub(super) struct Sized {
    pub(super) sizes: Vec<Option<Size>>,
    pub(super) starts: Vec<u64>,
    /// Ends of sources.
    pub(super) ends: Vec<u64>,
}

impl From<Vec<Option<Size>>> for Sized {
    fn from(sizes: Vec<Option<Size>>) -> Self {
        Self {
            sizes,
            starts: vec![0],
            ends: Vec::new(),
        }
    }
}

impl Samples for Sized {
    fn count(&self) -> u64 {
        self.sizes.len() as u64
    }

    fn size(&self, id: u64) -> Option<Size> {
        self.sizes[id as usize]
    }

    fn shard_starts(&self) -> &[u64] {
        &self.starts
    }

    fn source_ends(&self) -> &[u64] {
        &self.ends
    }

    fn fingerprint(&self) -> &str {
        "sizes"
    }
}

/// Sizes of all shapes, and every ninth unreadable.
fn sizes(count: u32) -> Sized {
    let size = |at| Size::new(100 + at * 37 % 200, 100 + at * 91 % 200);
    let sizes = (0..count).map(|at| (at % 9 != 8).then(|| size(at)));
    sizes.collect::<Vec<_>>().into()
}

/// As many squares, for a single bucket.
fn squares(count: usize) -> Sized {
    vec![Some(Size::new(80, 80)); count].into()
}

fn plan(spec: PlanSpec, count: u32) -> Plan {
    Plan::new(spec, &sizes(count)).unwrap()
}

fn epoch_ids(plan: &Plan, epoch: u64, world_size: u32) -> Vec<u64> {
    (0..plan.steps())
        .flat_map(|step| (0..world_size).map(move |rank| (step, rank)))
        .flat_map(|(step, rank)| plan.rank_slice(epoch, step, (rank, world_size)).positions)
        .map(|position| position.sample)
        .collect()
}

proptest! {
    #[test]
    fn every_sample_once(count in 1_u32..400, batch in 1_u32..20, seed: u64, epoch in 0_u64..9) {
        for tail in [Tail::Pad, Tail::Short, Tail::Drop] {
            for shuffle in [Shuffle::Full, Shuffle::None] {
                let spec = PlanSpec { seed, shuffle, ..spec(batch, tail) };
                let Ok(plan) = Plan::new(spec, &sizes(count)) else {
                    prop_assert_eq!(tail, Tail::Drop);
                    continue;
                };
                let mut real = BTreeMap::new();
                let mut padded = 0;
                for step in 0..plan.steps() {
                    let batch = plan.global_batch(epoch, step);
                    for position in batch.positions {
                        if position.padding {
                            padded += 1;
                        } else {
                            *real.entry(position.sample).or_insert(0) += 1;
                        }
                    }
                }
                let report = plan.report();
                prop_assert!(real.values().all(|&times| times == 1));
                prop_assert_eq!(real.len() as u64 + report.dropped, u64::from(count));
                prop_assert_eq!(padded, report.padded);
                let assigned: u64 = report.buckets.iter().map(|bucket| bucket.samples).sum();
                prop_assert_eq!(assigned, u64::from(count));
                prop_assert_eq!(report.unusable, u64::from(count / 9));
            }
        }
    }

    #[test]
    fn ranks_end_to_end_are_the_global_batch(count in 1_u32..300, quarter in 1_u32..6) {
        for tail in [Tail::Pad, Tail::Short] {
            let plan = plan(spec(quarter * 4, tail), count);
            let one = epoch_ids(&plan, 3, 1);
            prop_assert_eq!(&one, &epoch_ids(&plan, 3, 2));
            prop_assert_eq!(&one, &epoch_ids(&plan, 3, 4));
        }
    }
}

#[test]
fn order_depends_on_seed_and_epoch() {
    let one = plan(spec(8, Tail::Pad), 200);
    let other = plan(
        PlanSpec {
            seed: 2,
            ..spec(8, Tail::Pad)
        },
        200,
    );
    assert_eq!(epoch_ids(&one, 0, 1), epoch_ids(&one, 0, 1));
    assert_ne!(epoch_ids(&one, 0, 1), epoch_ids(&one, 1, 1));
    assert_ne!(epoch_ids(&one, 0, 1), epoch_ids(&other, 0, 1));
}

#[test]
fn padding_repeats_the_front_of_the_order() {
    let spec = PlanSpec {
        buckets: Buckets::Sizes(vec![Size::new(64, 64)]),
        ..spec(8, Tail::Pad)
    };
    let plan = Plan::new(spec, &squares(3)).unwrap();
    let batch = plan.global_batch(0, 0);
    let ids: Vec<_> = batch.positions.iter().map(|one| one.sample).collect();
    assert_eq!(ids[3..], [ids[0], ids[1], ids[2], ids[0], ids[1]]);
    let padding: Vec<_> = batch.positions.iter().map(|one| one.padding).collect();
    assert_eq!(padding, [[false; 3].as_slice(), &[true; 5]].concat());
}

#[test]
fn unshuffled_is_the_order_of_the_dataset() {
    let spec = PlanSpec {
        shuffle: Shuffle::None,
        buckets: Buckets::Sizes(vec![Size::new(64, 64)]),
        ..spec(4, Tail::Short)
    };
    let plan = Plan::new(spec, &squares(10)).unwrap();
    assert!(epoch_ids(&plan, 5, 2).into_iter().eq(0..10));
}

#[test]
fn substitutes_follow_in_the_epoch_order() {
    let plan = plan(spec(4, Tail::Pad), 100);
    let batch = plan.global_batch(2, 0);
    let follow: Vec<_> = plan
        .following(2, batch.bucket, batch.positions[0].place)
        .take(3)
        .collect();
    let ids: Vec<_> = batch.positions[1..].iter().map(|one| one.sample).collect();
    assert_eq!(follow, ids);
}

#[test]
fn needles_are_unusable_not_fatal() {
    let needle = Size::new(30_000, 10);
    let sizes: Sized = vec![Some(Size::new(300, 300)), Some(needle), None].into();
    let plan = Plan::new(spec(2, Tail::Pad), &sizes).unwrap();
    assert_eq!(plan.unusable(), [1, 2]);
    assert_eq!(plan.report().buckets[0].samples, 3);
}

#[test]
fn no_batch_at_all_is_an_error() {
    let error = Plan::new(spec(64, Tail::Drop), &sizes(5)).unwrap_err();
    assert!(
        error.to_string().contains("`global_batch` is 64"),
        "{error}"
    );
    let error = Plan::new(spec(4, Tail::Pad), &Sized::from(vec![None])).unwrap_err();
    assert!(error.to_string().contains("no usable image"), "{error}");
}

#[test]
fn a_given_order_is_delivered_as_it_is() {
    let ids = [4, 4, 0, 7, 2, 9, 9];
    let spec = PlanSpec {
        shuffle: Shuffle::Given(ids.into()),
        buckets: Buckets::Sizes(vec![Size::new(64, 64)]),
        ..spec(2, Tail::Short)
    };
    let plan = Plan::new(spec.clone(), &squares(10)).unwrap();
    assert_eq!(epoch_ids(&plan, 5, 2), ids);
    assert_eq!(epoch_ids(&plan, 6, 1), ids);
    assert_eq!(plan.report().outside, 5);
    let error = Plan::new(spec, &squares(9)).unwrap_err().to_string();
    assert!(error.contains("`shuffle` lists 9 at place 5"), "{error}");
}

#[test]
fn a_given_order_fills_the_batches_of_all_buckets_as_it_goes() {
    let (wide, tall) = (Some(Size::new(128, 64)), Some(Size::new(64, 128)));
    let spec = PlanSpec {
        shuffle: Shuffle::Given((0..7).collect()),
        buckets: Buckets::Sizes(vec![Size::new(128, 64), Size::new(64, 128)]),
        ..spec(2, Tail::Short)
    };
    let sizes = vec![wide, tall, tall, tall, wide, wide, tall];
    let plan = Plan::new(spec, &Sized::from(sizes)).unwrap();
    assert_eq!(epoch_ids(&plan, 0, 1), [1, 2, 0, 4, 3, 6, 5]);
}

#[test]
fn small_buckets_are_merged_or_dropped_and_reported() {
    let mut sizes = squares(20);
    sizes.sizes.extend([Some(Size::new(64, 128)); 3]);
    let list = vec![Size::new(64, 64), Size::new(64, 128)];
    let with = |small_buckets| {
        let spec = PlanSpec {
            buckets: Buckets::Sizes(list.clone()),
            small_buckets,
            ..spec(4, Tail::Pad)
        };
        Plan::new(spec, &sizes)
    };
    let report = with(SmallBuckets::Merge { below: 4 }).unwrap().report();
    assert_eq!(report.buckets.len(), 1);
    assert_eq!(report.buckets[0].samples, 23);
    assert_eq!(report.small[0].into, Some(list[0]));
    let report = with(SmallBuckets::Drop { below: 4 }).unwrap().report();
    assert_eq!((report.buckets.len(), report.left_out), (1, 3));
    let text = report.to_string();
    assert!(
        text.contains("3 samples of small buckets left out"),
        "{text}"
    );
    assert!(text.contains("3 samples of 64x128 left out"), "{text}");
    let error = with(SmallBuckets::Drop { below: 50 }).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("drops all 2 buckets, of which the largest has 20"),
        "{text}"
    );
}

#[test]
fn shares_of_one_seed_do_not_overlap() {
    let ids = |from, to| {
        let subset = Subset::Fraction { from, to, seed: 3 };
        let spec = PlanSpec {
            subset,
            ..spec(1, Tail::Pad)
        };
        let mut ids = epoch_ids(&plan(spec, 1000), 0, 1);
        ids.sort_unstable();
        ids
    };
    let (train, check) = (ids(0.0, 0.9), ids(0.9, 1.0));
    assert!((60..140).contains(&check.len()), "{}", check.len());
    let mut both = [train, check].concat();
    both.sort_unstable();
    assert!(both.into_iter().eq(0..1000));
}

#[test]
fn captions_are_dropped_by_seed() {
    let plan = plan(spec(4, Tail::Pad), 10);
    let dropped = |epoch, share| -> Vec<u64> {
        let dropped = |&id: &u64| plan.caption_dropped((epoch, id), share);
        (0..10_000).filter(dropped).collect()
    };
    assert!(dropped(0, 0.0).is_empty());
    assert_eq!(dropped(0, 1.0).len(), 10_000);
    // Four standard deviations.
    assert!((880..1120).contains(&dropped(0, 0.1).len()));
    assert_eq!(dropped(0, 0.1), dropped(0, 0.1));
    assert_ne!(dropped(0, 0.1), dropped(1, 0.1));
}

/// A change here changes the order of every run: it needs a new `ORDER_VERSION`.
#[test]
fn the_blocked_order_is_frozen() {
    let spec = PlanSpec {
        shuffle: Shuffle::Blocked(Block::Shards(2)),
        repeats: 2,
        ..spec(4, Tail::Pad)
    };
    let mut samples = sizes(60);
    samples.starts = vec![0, 10, 20, 33, 50];
    let ids = epoch_ids(&Plan::new(spec, &samples).unwrap(), 5, 1);
    assert_eq!(ids[..12], [6, 2, 24, 24, 0, 4, 0, 22, 28, 2, 28, 6]);
}

/// A change here changes the order of every run: it needs a new `ORDER_VERSION`.
#[test]
fn the_order_is_frozen() {
    let plan = plan(spec(4, Tail::Pad), 30);
    let ids = epoch_ids(&plan, 5, 1);
    assert_eq!(ids[..12], [22, 0, 11, 4, 14, 10, 18, 21, 27, 20, 5, 16]);
    let drawn = plan.transform(5, 3, Size::new(640, 480), Size::new(256, 256));
    let drawn = drawn.map(|drawn| (drawn.crop_x, drawn.crop_y, drawn.flip));
    assert_eq!(drawn, Some((21, 0, true)));
}

/// Five million positions a second and core is the promise; a debug build gets a tenth.
#[test]
fn positions_are_cheap() {
    let order = Permutation::new(100_000_000, 7);
    let start = std::time::Instant::now();
    let sum: u64 = (0..200_000)
        .map(|at| order.get(at))
        .fold(0, u64::wrapping_add);
    let rate = 200_000.0 / start.elapsed().as_secs_f64();
    assert!(sum > 0 && rate > 500_000.0, "{rate:.0} positions/s");
}
