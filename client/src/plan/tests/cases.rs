//! Random runs: any dataset, rules, order and tail; interrupted anywhere, resumed by another number
//! of ranks.

mod drawn;
mod owed;

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use self::drawn::{Case, case, samples, weight};
use super::super::*;

/// The same epoch as ranks deliver it that are stopped and come back as others.
fn delivered(case: &Case, plan: &Plan) -> Vec<PlannedBatch> {
    let batch = case.spec.global_batch;
    let worlds: Vec<u32> = (1..=batch)
        .filter(|&world| batch.is_multiple_of(world))
        .collect();
    let mut steps = Vec::new();
    let mut legs = case.legs.iter().cycle();
    while (steps.len() as u64) < plan.steps() {
        let &(leg, world) = legs.next().unwrap();
        let world = worlds[world % worlds.len()];
        // A restart knows the spec and the samples, nothing else.
        let plan = Plan::new(case.spec.clone(), &case.samples).unwrap();
        for step in (steps.len() as u64..plan.steps()).take(leg as usize) {
            let mut slices =
                (0..world).map(|rank| plan.rank_slice(case.epoch, step, (rank, world)));
            let mut whole = slices.next().unwrap();
            let longest = whole.positions.len();
            for slice in slices {
                assert_eq!((slice.bucket, slice.size), (whole.bucket, whole.size));
                assert!(slice.positions.len().abs_diff(longest) <= 1);
                whole.positions.extend(slice.positions);
            }
            steps.push(whole);
        }
    }
    steps
}

fn agrees(case: &Case) -> Result<(), TestCaseError> {
    let plan = match Plan::new(case.spec.clone(), &case.samples) {
        Ok(plan) => plan,
        // Only where nothing is left, and it says so.
        Err(Error::Config { field, .. }) => {
            let expected = [
                "dataset",
                "subset",
                "small_buckets",
                "global_batch",
                "weights",
                "mix",
            ];
            prop_assert!(expected.contains(&field), "{field}");
            return Ok(());
        }
        Err(error) => return Err(TestCaseError::fail(error.to_string())),
    };
    let (spec, report) = (&case.spec, plan.report());
    let steps = delivered(case, &plan);
    let mut times = BTreeMap::new();
    let mut places = vec![BTreeMap::new(); report.buckets.len()];
    let (mut padded, mut batches) = (0, vec![0; report.buckets.len()]);
    for (step, batch) in (0..).zip(&steps) {
        prop_assert_eq!(batch, &plan.global_batch(case.epoch, step));
        prop_assert_eq!(batch.size, report.buckets[batch.bucket].size);
        batches[batch.bucket] += 1;
        let full = batch.positions.len() == spec.global_batch as usize;
        prop_assert!(full || (spec.tail == Tail::Short && !batch.positions.is_empty()));
        for one in &batch.positions {
            if one.padding {
                padded += 1;
                continue;
            }
            *times.entry(one.sample).or_insert(0) += 1;
            let twice = places[batch.bucket].insert(one.place, one.sample);
            prop_assert_eq!(twice, None);
        }
    }
    owed::came_as_owed(case, &plan, &times)?;
    prop_assert_eq!(padded, report.padded);
    prop_assert_eq!(steps.len() as u64, report.steps);
    for (at, bucket) in report.buckets.iter().enumerate() {
        prop_assert_eq!(batches[at], bucket.batches);
        prop_assert_eq!(places[at].len() as u64, bucket.places - bucket.dropped);
        // What is said to follow is what follows.
        let order: Vec<u64> = places[at].values().copied().collect();
        let follow: Vec<u64> = plan
            .following(case.epoch, at, 0)
            .take(order.len().max(1) - 1)
            .collect();
        prop_assert_eq!(order.get(1..).unwrap_or(&[]), follow);
    }
    owed::counts(case, &report)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_run_delivers_what_it_owes(case in case()) {
        agrees(&case)?;
    }

    #[test]
    fn blocks_are_local(
        samples in samples(),
        (seed, batch, epoch) in (any::<u64>(), 1_u32..25, 0_u64..9),
        shards in 1_u32..5,
        weights in prop::option::of(vec(weight(), 250)),
    ) {
        let weights = weights.map(|list| list[..samples.sizes.len()].into());
        let spec = PlanSpec {
            seed,
            weights: weights.map_or(Weights::Equal, Weights::Given),
            shuffle: Shuffle::Blocked(Block::Shards(shards)),
            ..super::spec(batch, Tail::Short)
        };
        let Ok(plan) = Plan::new(spec, &samples) else { return Ok(()) };
        let shard = |id: u64| samples.starts.partition_point(|&start| start <= id) - 1;
        let mut reads = Vec::new();
        for step in 0..plan.steps() {
            let batch = plan.global_batch(epoch, step);
            let of_shard = batch.positions.iter().map(|one| shard(one.sample));
            reads.extend(of_shard.map(|shard| (shard, batch.bucket)));
        }
        let count = samples.starts.len() as u64;
        let order = Permutation::new(count, draw(seed, epoch, 0, Purpose::Shards));
        let mut group = BTreeMap::new();
        for at in 0..count {
            group.insert(order.get(at) as usize, (at / u64::from(shards)) as usize);
        }
        let group = |shard: usize| group[&shard];
        // From the first read of a group on, little of the groups before it is left to read.
        let mut left: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for &(shard, bucket) in &reads {
            *left.entry((group(shard), bucket)).or_insert(0) += 1;
        }
        let mut reached = 0;
        for &(shard, bucket) in &reads {
            reached = reached.max(group(shard));
            let earlier = left.range(..(reached, 0)).filter(|((_, of), _)| *of == bucket);
            let waiting: u64 = earlier.map(|(_, left)| left).sum();
            prop_assert!(waiting < u64::from(batch), "{waiting} of bucket {bucket}");
            *left.get_mut(&(group(shard), bucket)).unwrap() -= 1;
        }
    }
}
