use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn spec(global_batch: u32, tail: Tail) -> PlanSpec {
    PlanSpec {
        seed: 1,
        global_batch,
        shuffle: Shuffle::Full,
        tail,
        buckets: buckets(256 * 256, 32, 2.0),
        transform: TransformSpec {
            crop: Crop::Random,
            flip: true,
        },
    }
}

/// Sizes of all shapes, and every ninth unreadable.
fn sizes(count: u32) -> Vec<Option<Size>> {
    (0..count)
        .map(|at| (at % 9 != 8).then(|| Size::new(100 + at * 37 % 200, 100 + at * 91 % 200)))
        .collect()
}

fn plan(spec: PlanSpec, count: u32) -> Plan {
    Plan::new(spec, sizes(count).into_iter()).unwrap()
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
                let Ok(plan) = Plan::new(spec, sizes(count).into_iter()) else {
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
        buckets: vec![Size::new(64, 64)],
        ..spec(8, Tail::Pad)
    };
    let plan = Plan::new(spec, (0..3).map(|_| Some(Size::new(80, 80)))).unwrap();
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
        buckets: vec![Size::new(64, 64)],
        ..spec(4, Tail::Short)
    };
    let plan = Plan::new(spec, (0..10).map(|_| Some(Size::new(80, 80)))).unwrap();
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
    let sizes = [Some(Size::new(300, 300)), Some(needle), None];
    let plan = Plan::new(spec(2, Tail::Pad), sizes.into_iter()).unwrap();
    assert_eq!(plan.unusable(), [1, 2]);
    assert_eq!(plan.report().buckets[0].samples, 3);
}

#[test]
fn no_batch_at_all_is_an_error() {
    let error = Plan::new(spec(64, Tail::Drop), sizes(5).into_iter()).unwrap_err();
    assert!(
        error.to_string().contains("`global_batch` is 64"),
        "{error}"
    );
    let error = Plan::new(spec(4, Tail::Pad), [None].into_iter()).unwrap_err();
    assert!(error.to_string().contains("no usable image"), "{error}");
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
