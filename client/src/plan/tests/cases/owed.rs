//! What a run owes, found without the plan's arithmetic, and whether it came.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{super::super::*, drawn::Case};

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

/// Whether every sample of an epoch came as often as its weight says.
pub(super) fn came_as_owed(
    case: &Case,
    plan: &Plan,
    times: &BTreeMap<u64, u64>,
) -> Result<(), TestCaseError> {
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
pub(super) fn counts(case: &Case, report: &Report) -> Result<(), TestCaseError> {
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
