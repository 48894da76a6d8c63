//! What random runs are drawn from.

use proptest::{collection::vec, prelude::*, sample::subsequence};

use super::super::{super::*, Sized};

/// Everything about a run but what can be derived.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) samples: Sized,
    pub(super) spec: PlanSpec,
    pub(super) epoch: u64,
    /// Steps to do before each change of the world size.
    pub(super) legs: Vec<(u64, usize)>,
}

fn image() -> impl Strategy<Value = Option<Size>> {
    prop_oneof![
        12 => (40_u32..400, 40_u32..400).prop_map(|(w, h)| Some(Size::new(w, h))),
        1 => Just(None),
        1 => Just(Some(Size::new(30_000, 3))),
    ]
}

/// Images in shards, some of them empty of anything that is used.
pub(super) fn samples() -> impl Strategy<Value = Sized> {
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
pub(super) fn weight() -> impl Strategy<Value = f32> {
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

pub(super) fn case() -> impl Strategy<Value = Case> {
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
