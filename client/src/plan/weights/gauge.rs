//! The weight of every sample, in units of 2^-32.

use std::sync::Arc;

use super::{MAX_WEIGHT, Share, Shares, Weights};
use crate::{
    error::Error,
    plan::{
        PlanSpec, Samples,
        layout::{Layout, in_order},
    },
};

/// 1, in fixed point.
pub(super) const ONE: u64 = 1 << 32;
/// Largest weight after shares and repeats: its whole part is a number of 31 bits.
const MAX_RESULT: u64 = 1 << 63;
/// Members that a thread adds up at once.
const CHUNK: usize = 1 << 18;

/// In fixed point; what is above 0 stays above.
fn fixed(number: f64) -> u64 {
    let units = (number.min(MAX_WEIGHT) * ONE as f64).round() as u64;
    if number > 0.0 { units.max(1) } else { 0 }
}

/// Fixed point for shares: a power of two, so that whole numbers stay exact.
struct Scale(f64);

impl Scale {
    /// Takes `most` to 40 bits.
    fn up_to(most: f64) -> Self {
        /// Shares below 2 to this are as good as 0.
        const LEAST: i64 = -900;
        let exponent = (most.to_bits() >> 52) as i64 - 1023;
        let power = 39 - exponent.max(LEAST) + 1023;
        Self(f64::from_bits((power as u64) << 52))
    }

    /// What is above 0 stays above.
    fn fixed(&self, share: f64) -> u64 {
        let units = (share * self.0).round() as u64;
        if share > 0.0 { units.max(1) } else { 0 }
    }
}

fn scaled(weight: u64, factor: u64) -> u128 {
    let product = (u128::from(weight) * u128::from(factor)) >> 32;
    if weight > 0 && factor > 0 {
        product.max(1)
    } else {
        0
    }
}

/// Which samples have the weight 0.
#[derive(Clone, Debug)]
pub(crate) struct Zeros {
    given: Option<Arc<[f32]>>,
    /// Ends of sources, and whether the share is 0.
    sources: Vec<(u64, bool)>,
}

impl Zeros {
    /// `None` where there are none.
    pub(crate) fn new(spec: &PlanSpec, samples: &impl Samples) -> Option<Self> {
        let given = match &spec.weights {
            Weights::Given(weights) if weights.contains(&0.0) => Some(weights.clone()),
            _ => None,
        };
        let shares = spec.shares.iter().flat_map(|shares| &shares.shares);
        let ends = samples.source_ends().iter().copied();
        let mut sources: Vec<_> = ends
            .zip(shares.map(|share| share.number() == 0.0))
            .collect();
        if sources.iter().all(|&(_, zero)| !zero) {
            sources.clear();
        }
        (given.is_some() || !sources.is_empty()).then_some(Self { given, sources })
    }

    /// Of all ids up to `count` that have it.
    pub(crate) fn hash(&self, count: u64) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let mut last = false;
        for id in 0..=count {
            // Where they begin and end.
            let here = id < count && self.contains(id);
            if std::mem::replace(&mut last, here) != here {
                hasher.update(&id.to_le_bytes());
            }
        }
        hasher.finalize()
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        let given = self.given.as_ref();
        if given.is_some_and(|weights| weights.get(id as usize) == Some(&0.0)) {
            return true;
        }
        let source = self.sources.partition_point(|&(end, _)| end <= id);
        self.sources.get(source).is_some_and(|&(_, zero)| zero)
    }
}

/// The weights of all samples that take part.
#[derive(Clone, Debug)]
pub(crate) struct Gauge {
    given: Option<Arc<[f32]>>,
    /// The end of every source's ids, with the factor of its weights.
    factors: Vec<(u64, u64)>,
    repeats: u64,
}

impl Gauge {
    /// `None` where every weight is 1.
    pub(super) fn new(spec: &PlanSpec, layout: &Layout) -> Result<Option<Self>, Error> {
        let given = match &spec.weights {
            Weights::Given(weights) => Some(weights.clone()),
            Weights::Equal => None,
        };
        let mut gauge = Self {
            given,
            factors: Vec::new(),
            repeats: 1,
        };
        if let Some(shares) = &spec.shares {
            gauge.factors = gauge.shared(shares, layout)?;
            if gauge.factors.iter().all(|&(_, factor)| factor == ONE) {
                gauge.factors.clear();
            }
        }
        gauge.repeats = spec.repeats.into();
        // Members have weights above 0: those of others do not count.
        let ones = |weights: &Arc<[f32]>| weights.iter().all(|&one| one == 1.0 || one == 0.0);
        if gauge.given.as_ref().is_some_and(ones) {
            gauge.given = None;
        }
        gauge.check(layout)?;
        let plain = gauge.given.is_none() && gauge.factors.is_empty();
        Ok((!plain).then_some(gauge))
    }

    /// Whether weights are the same for all samples of a source.
    pub(super) fn is_flat(&self) -> bool {
        self.given.is_none()
    }

    /// The ends of the sources' ids; the last is that of all.
    pub(super) fn ends(&self) -> impl Iterator<Item = u64> + '_ {
        self.factors.iter().map(|&(end, _)| end)
    }

    /// The weight of a sample that takes part.
    pub(super) fn weight(&self, id: u64) -> u64 {
        self.full_weight(id).min(u128::from(MAX_RESULT)) as u64
    }

    fn full_weight(&self, id: u64) -> u128 {
        let given = self.given.as_ref();
        let given = given.map_or(ONE, |weights| fixed(weights[id as usize].into()));
        let factor = match &self.factors[..] {
            [] => ONE,
            factors => factors[factors.partition_point(|&(end, _)| end <= id)].1,
        };
        scaled(given, factor) * u128::from(self.repeats)
    }

    /// The factors that shares come down to.
    fn shared(&self, shares: &Shares, layout: &Layout) -> Result<Vec<(u64, u64)>, Error> {
        let ends = &layout.outline.sources;
        if ends.len() != shares.shares.len() {
            let (shares, sources) = (shares.shares.len(), ends.len());
            let reason = format!("has {shares} shares, and the dataset has {sources} sources");
            return Err(Error::config("mix", reason));
        }
        let by_weight = shares
            .shares
            .iter()
            .any(|one| matches!(one, Share::Weight(_)));
        if !by_weight {
            let factors = shares.shares.iter().map(|share| fixed(share.number()));
            return Ok(ends.iter().copied().zip(factors).collect());
        }
        let totals = self.totals(layout, ends);
        let most = shares.shares.iter().map(|share| share.number());
        let scale = Scale::up_to(most.fold(0.0, f64::max));
        // Those of which nothing takes part have none of the epoch either.
        let part = |at: usize| match totals[at] {
            0 => 0,
            _ => scale.fixed(shares.shares[at].number()),
        };
        let all: u64 = (0..ends.len()).map(part).sum();
        let samples = shares.epoch_samples.unwrap_or(layout.outline.members());
        let factor = |at: usize| {
            let owed =
                ((u128::from(samples) * u128::from(part(at))) << 32) / u128::from(all.max(1));
            let factor = (owed << 32) / totals[at].max(1);
            let factor = u64::try_from(factor).unwrap_or(u64::MAX).min(MAX_RESULT);
            factor.max(u64::from(part(at) > 0))
        };
        Ok((0..ends.len()).map(|at| (ends[at], factor(at))).collect())
    }

    /// The weights of each source's members, added up.
    fn totals(&self, layout: &Layout, ends: &[u64]) -> Vec<u128> {
        let members = &layout.members;
        let mut totals = vec![0; ends.len()];
        let chunks = members.len().div_ceil(CHUNK);
        let work = |chunk: usize| {
            let range = chunk * CHUNK..((chunk + 1) * CHUNK).min(members.len());
            let mut totals = vec![0_u128; ends.len()];
            for id in range.map(|at| u64::from(members.get(at))) {
                let source = ends.partition_point(|&end| end <= id);
                totals[source] += u128::from(self.weight(id));
            }
            totals
        };
        let add = |_, more: Vec<u128>| {
            totals
                .iter_mut()
                .zip(more)
                .for_each(|(sum, more)| *sum += more);
            Ok::<_, std::convert::Infallible>(())
        };
        let Ok(()) = in_order(chunks, work, add);
        totals
    }

    /// That nothing comes more often than can be counted.
    fn check(&self, layout: &Layout) -> Result<(), Error> {
        let most = match &self.given {
            None => fixed(1.0),
            Some(weights) => fixed(weights.iter().copied().fold(0.0, f32::max).into()),
        };
        let factor = self.factors.iter().map(|&(_, factor)| factor).max();
        let most = scaled(most, factor.unwrap_or(ONE)) * u128::from(self.repeats);
        if most <= u128::from(MAX_RESULT) {
            return Ok(());
        }
        // The bound is crude: look closer.
        let ids = layout.members.iter().map(u64::from);
        let over = |&id: &u64| self.full_weight(id) > u128::from(MAX_RESULT);
        let Some(id) = ids.into_iter().find(over) else {
            return Ok(());
        };
        let times = self.full_weight(id) >> 32;
        let field = if self.factors.is_empty() {
            "weights"
        } else {
            "mix"
        };
        let reason = format!(
            "and `repeats` deliver sample {id} {times} times in an epoch, over {}: lower one of them",
            MAX_RESULT >> 32
        );
        Err(Error::config(field, reason))
    }
}
