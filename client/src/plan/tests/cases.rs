//! Random runs: any dataset, rules, order and tail; interrupted anywhere, resumed by another number
//! of ranks.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::subsequence};

use super::{super::*, Sized};

/// Everything about a run but what can be derived.
#[derive(Clone, Debug)]
struct Case {
    samples: Sized,
    spec: PlanSpec,
    epoch: u64,
    /// Steps to do before each change of the world size.
    legs: Vec<(u64, usize)>,
}

fn image() -> impl Strategy<Value = Option<Size>> {
    prop_oneof![
        12 => (40_u32..400, 40_u32..400).prop_map(|(w, h)| Some(Size::new(w, h))),
        1 => Just(None),
        1 => Just(Some(Size::new(30_000, 3))),
    ]
}

/// Images in shards, some of them empty of anything that is used.
fn samples() -> impl Strategy<Value = Sized> {
    (
        vec(image(), 1..250),
        vec(any::<prop::sample::Index>(), 0..30),
    )
        .prop_map(|(sizes, cuts)| {
            let mut starts: Vec<u64> = cuts.iter().map(|at| at.index(sizes.len()) as u64).collect();
            starts.push(0);
            starts.sort_unstable();
            starts.dedup();
            Sized {
                starts,
                ..Sized::from(sizes)
            }
        })
}

fn rule() -> impl Strategy<Value = Buckets> {
    let list = [
        (64, 64),
        (128, 128),
        (64, 128),
        (128, 64),
        (96, 64),
        (256, 256),
    ];
    let list: Vec<_> = list.into_iter().map(|(w, h)| Size::new(w, h)).collect();
    let (step, max_aspect) = (32, 2.0);
    prop_oneof![
        Just(Buckets::Aspect {
            area: 128 * 128,
            step,
            max_aspect
        }),
        Just(Buckets::Areas {
            areas: vec![1 << 12, 1 << 16, 1 << 14],
            step,
            max_aspect
        }),
        subsequence(list, 1..=6).prop_map(Buckets::Sizes),
    ]
}

fn small() -> impl Strategy<Value = SmallBuckets> {
    prop_oneof![
        Just(SmallBuckets::Keep),
        (2_u64..40).prop_map(|below| SmallBuckets::Merge { below }),
        (2_u64..40).prop_map(|below| SmallBuckets::Drop { below }),
    ]
}

fn subset(count: u64) -> impl Strategy<Value = Subset> {
    prop_oneof![
        Just(Subset::All),
        (0..count, 1..=count).prop_map(|(start, more)| Subset::Range {
            start,
            end: start + more
        }),
        (0.0..0.5, any::<u64>()).prop_map(|(from, seed)| Subset::Fraction {
            from,
            to: from + 0.5,
            seed
        }),
        subsequence((0..count).collect::<Vec<_>>(), 1..=count as usize)
            .prop_map(|ids| Subset::Ids(ids.into())),
    ]
}

/// Weights of samples; where sources end, and their shares.
type Delivery = (Weights, Vec<u64>, Option<Shares>);

/// Quarters, so that sums are exact, or anything.
fn weight() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => (0_u8..14).prop_map(|quarters| f32::from(quarters) / 4.0),
        1 => 0.0_f32..3.0,
    ]
}

fn delivery(count: u64) -> impl Strategy<Value = Delivery> {
    let weights = prop_oneof![
        2 => Just(Weights::Equal),
        1 => vec(weight(), count as usize).prop_map(|list| Weights::Given(list.into())),
        1 => vec(prop_oneof![Just(0.5_f32), Just(2.0)], count as usize)
            .prop_map(|list| Weights::Given(list.into())),
    ];
    let source = (any::<prop::sample::Index>(), 0_u8..14);
    let sources = vec(source, 1..5);
    let shares = (sources, any::<bool>(), prop::option::of(1_u64..500));
    let shares = shares.prop_map(move |(sources, by_weight, epoch)| {
        let cuts = sources
            .iter()
            .map(|(at, _)| at.index(count as usize) as u64 + 1);
        let mut ends: Vec<u64> = cuts.collect();
        ends.push(count);
        ends.sort_unstable();
        ends.dedup();
        let share = |at: usize| {
            let quarters = f64::from(sources[at % sources.len()].1) / 4.0;
            let kind = if by_weight {
                Share::Weight
            } else {
                Share::Repeats
            };
            kind(quarters)
        };
        let shares = Shares {
            shares: (0..ends.len()).map(share).collect(),
            epoch_samples: epoch.filter(|_| by_weight),
        };
        (ends, Some(shares))
    });
    let shares = prop_oneof![Just((Vec::new(), None)), shares];
    (weights, shares).prop_map(|(weights, (ends, shares))| (weights, ends, shares))
}

/// The order, the subset and the repeats.
fn order(count: u64) -> impl Strategy<Value = (Shuffle, Subset, u32)> {
    let drawn = prop_oneof![
        Just(Shuffle::Full),
        Just(Shuffle::None),
        (1_u32..5).prop_map(|shards| Shuffle::Blocked(Block::Shards(shards))),
        (1_u64..60).prop_map(|samples| Shuffle::Blocked(Block::Samples(samples))),
    ];
    prop_oneof![
        4 => (drawn, subset(count), 1_u32..4),
        1 => vec(0..count, 1..300)
            .prop_map(|ids| (Shuffle::Given(ids.into()), Subset::All, 1)),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let tail = prop_oneof![Just(Tail::Pad), Just(Tail::Drop), Just(Tail::Short)];
    let run = (any::<u64>(), 1_u32..25, tail, 0_u64..1000);
    let rules = (rule(), small(), vec((1_u64..20, 0_usize..4), 1..5));
    (samples(), run, rules).prop_flat_map(|(samples, run, rules)| {
        let (seed, global_batch, tail, epoch) = run;
        let (buckets, small_buckets, legs) = rules;
        let count = samples.count();
        (order(count), delivery(count)).prop_map(move |(order, delivery)| {
            let (shuffle, subset, repeats) = order;
            let (weights, ends, shares) = match shuffle {
                Shuffle::Given(_) => (Weights::Equal, Vec::new(), None),
                _ => delivery,
            };
            Case {
                samples: Sized {
                    ends,
                    ..samples.clone()
                },
                spec: PlanSpec {
                    seed,
                    global_batch,
                    shuffle,
                    tail,
                    buckets: buckets.clone(),
                    small_buckets,
                    subset,
                    repeats,
                    weights,
                    shares,
                    transform: TransformSpec {
                        crop: Crop::Random,
                        flip: 0.5,
                    },
                    clips: None,
                },
                epoch,
                legs: legs.clone(),
            }
        })
    })
}

/// The weight of a sample before shares by weight, with its source's number.
fn weight_of(case: &Case, id: u64) -> (f64, usize) {
    let spec = &case.spec;
    let given = match &spec.weights {
        Weights::Equal => 1.0,
        Weights::Given(weights) => f64::from(weights[id as usize]),
    };
    let source = case.samples.ends.iter().filter(|&&end| end <= id).count();
    let share = spec.shares.as_ref().map(|shares| shares.shares[source]);
    let share = match share {
        Some(Share::Repeats(repeats)) => repeats,
        // Those without a share take no part; what the others come to depends on all.
        Some(Share::Weight(weight)) => f64::from(weight > 0.0),
        None => 1.0,
    };
    (given * share, source)
}

/// How often an epoch owes each sample, found by looking at them one by one.
fn owed(case: &Case, plan: &Plan) -> BTreeMap<u64, f64> {
    let spec = &case.spec;
    let mut owed = BTreeMap::new();
    let ids: Vec<u64> = match (&spec.shuffle, &spec.subset) {
        (Shuffle::Given(ids), _) => ids.to_vec(),
        (_, Subset::All) => (0..case.samples.count()).collect(),
        (_, Subset::Range { start, end }) => (*start..*end.min(&case.samples.count())).collect(),
        (_, Subset::Ids(ids)) => ids.to_vec(),
        (_, &Subset::Fraction { from, to, seed }) => (0..case.samples.count())
            .filter(|&id| {
                let bits = draw(seed, 0, id, Purpose::Subset);
                let number = (bits >> 11) as f64 / 2_f64.powi(53);
                number >= from && number < to
            })
            .collect(),
    };
    let sizes = spec.buckets.sizes();
    let chooser = choose::Chooser::new(&spec.buckets);
    let report = plan.report();
    for id in ids {
        let place = case.samples.size(id).map(|source| {
            let size = sizes[chooser.choose(source)];
            let small = report.small.iter().find(|small| small.size == size);
            (source, small.map_or(Some(size), |small| small.into))
        });
        let out = match place {
            None => false,
            // Needles keep a place, but not one in a bucket that is gone.
            Some((source, None)) => {
                let first = sizes[chooser.choose(source)];
                cover(source, first).is_some()
            }
            Some(_) => false,
        };
        if !out {
            let weight = weight_of(case, id).0;
            if weight > 0.0 {
                *owed.entry(id).or_insert(0.0) += weight;
            }
        }
    }
    if let Some(shares) = &spec.shares
        && let [Share::Weight(_), ..] = shares.shares[..]
    {
        let parts: Vec<_> = shares.shares.iter().map(|share| share.number()).collect();
        let mut totals = vec![0.0; parts.len()];
        for (&id, weight) in &owed {
            totals[weight_of(case, id).1] += weight;
        }
        let present = parts.iter().zip(&totals).filter(|(_, total)| **total > 0.0);
        let all: f64 = present.map(|(part, _)| part).sum();
        let epoch = shares.epoch_samples.unwrap_or(owed.len() as u64) as f64;
        for (&id, weight) in &mut owed {
            let source = weight_of(case, id).1;
            *weight *= epoch * parts[source] / all / totals[source];
        }
    }
    owed.values_mut()
        .for_each(|weight| *weight *= f64::from(spec.repeats));
    owed
}

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
    came_as_owed(case, &plan, &times)?;
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
    counts(case, &report)
}

/// Whether every sample of an epoch came as often as its weight says.
fn came_as_owed(case: &Case, plan: &Plan, times: &BTreeMap<u64, u64>) -> Result<(), TestCaseError> {
    let report = plan.report();
    let expected = owed(case, plan);
    let total: u64 = times.values().sum();
    let sum: f64 = expected.values().sum();
    let asked = (total + report.dropped) as f64;
    // Rounded in every bucket, and one at least for what there is of fractions.
    let rounding = report.buckets.len() as f64;
    prop_assert!((asked - sum).abs() <= rounding, "{asked} for {sum}");
    let whole = |weight: &f64| weight.fract() == 0.0;
    prop_assert!(
        !expected.values().all(whole) || asked == sum,
        "{asked} for {sum}"
    );
    let came = |id| times.get(id).copied().unwrap_or(0) as f64;
    for (id, &owed) in &expected {
        // The slack is that of fixed point; one more where a sum was rounded up.
        let (least, most) = ((owed - 1e-6).floor(), (owed + 1e-6).ceil());
        let more = f64::from(owed.fract() > 0.5);
        prop_assert!(came(id) <= most + more, "{id}: {} of {owed}", came(id));
        prop_assert!(
            report.dropped > 0 || came(id) >= least,
            "{id}: {} of {owed}",
            came(id)
        );
    }
    prop_assert!(times.keys().all(|id| expected.contains_key(id)));
    prop_assert!(report.dropped == 0 || case.spec.tail == Tail::Drop);
    Ok(())
}

/// The report's sums: every sample of the dataset is somewhere.
fn counts(case: &Case, report: &Report) -> Result<(), TestCaseError> {
    prop_assert_eq!(report.samples, case.samples.count());
    if !matches!(case.spec.shuffle, Shuffle::Given(_)) {
        let assigned: u64 = report.buckets.iter().map(|bucket| bucket.samples).sum();
        prop_assert_eq!(
            assigned + report.left_out + report.outside + report.weightless,
            report.samples
        );
    }
    Ok(())
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
