//! How often an epoch delivers each sample: weights of samples and shares of sources.
//!
//! A weight is the number of deliveries that a sample is owed in an epoch. Its whole part is
//! delivered exactly; of the fractions of a bucket, added up and rounded, so many places are drawn.
//! Everything is computed in fixed point, so that every machine agrees.

mod comb;
mod course;
mod gauge;

use std::sync::Arc;

pub(super) use comb::Comb;
pub(super) use course::Course;
pub(super) use gauge::Gauge;
pub(crate) use gauge::Zeros;

use super::{PlanSpec, Shuffle, layout::Layout};
use crate::error::Error;

/// Largest weight, and largest [`Share::Repeats`].
pub const MAX_WEIGHT: f64 = 65_536.0;
/// Most [`Shares::epoch_samples`].
pub const MAX_EPOCH_SAMPLES: u64 = 1 << 40;
/// Most deliveries of one bucket in one epoch: far below the 2^62 that a permutation takes.
const MAX_PLACES: u64 = 1 << 48;

/// How often an epoch delivers each sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Weights {
    /// Once.
    Equal,
    /// As often as its weight says, by sample id: 2 is twice in every epoch, 0.5 in one epoch of
    /// two, 2.5 in turn twice and three times, 0 never.
    Given(Arc<[f32]>),
}

/// How much of an epoch comes from one source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// Each of its samples so many times, as a weight says; 0 leaves the source out.
    Repeats(f64),
    /// This part of what is delivered, in proportion to those of the other sources.
    Weight(f64),
}

/// The shares of all sources of a mix.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// One for each source, all of one kind.
    pub shares: Vec<Share>,
    /// Deliveries of an epoch, before [`PlanSpec::repeats`], where shares are weights; `None` for as
    /// many as samples take part.
    pub epoch_samples: Option<u64>,
}

impl Share {
    pub(super) const fn number(self) -> f64 {
        match self {
            Self::Repeats(number) | Self::Weight(number) => number,
        }
    }
}

/// What can be checked without a dataset.
pub(super) fn check(spec: &PlanSpec) -> Result<(), Error> {
    let given = matches!(spec.shuffle, Shuffle::Given(_));
    if let Weights::Given(weights) = &spec.weights {
        check_weights(weights)?;
        if given {
            let reason = "is Given, which says itself how often each sample comes: leave `weights` \
                          at Equal, and repeat ids in the list";
            return Err(Error::config("shuffle", reason));
        }
    }
    let Some(shares) = &spec.shares else {
        return Ok(());
    };
    check_shares(shares)?;
    if given
        && shares
            .shares
            .iter()
            .any(|share| *share != Share::Repeats(1.0))
    {
        let reason = "is Given, which says itself how often each sample comes: give every source of \
                      `mix` the share Repeats(1.0), and repeat ids in the list";
        return Err(Error::config("shuffle", reason));
    }
    Ok(())
}

fn check_weights(weights: &[f32]) -> Result<(), Error> {
    // Not `contains`: a NaN must fail too.
    let odd = |weight: &f32| !(*weight >= 0.0 && f64::from(*weight) <= MAX_WEIGHT);
    if let Some(id) = weights.iter().position(odd) {
        let reason = format!(
            "has {} for sample {id}: a weight is how often it comes in an epoch, 0 to {MAX_WEIGHT}",
            weights[id]
        );
        return Err(Error::config("weights", reason));
    }
    if weights.iter().all(|&weight| weight == 0.0) {
        let reason = format!(
            "has {} weights, all 0, which delivers nothing: give some samples more",
            weights.len()
        );
        return Err(Error::config("weights", reason));
    }
    Ok(())
}

fn check_shares(shares: &Shares) -> Result<(), Error> {
    let odd = |share: &Share| !(share.number() >= 0.0 && share.number() <= MAX_WEIGHT);
    if let Some(at) = shares.shares.iter().position(odd) {
        let share = shares.shares[at];
        let reason =
            format!("has the share {share:?} for source {at}: shares are 0 to {MAX_WEIGHT}");
        return Err(Error::config("mix", reason));
    }
    if shares.shares.iter().all(|share| share.number() == 0.0) {
        let reason = "gives every source the share 0, which delivers nothing: give some more";
        return Err(Error::config("mix", reason));
    }
    let weights = |share: &&Share| matches!(share, Share::Weight(_));
    let weights = shares.shares.iter().filter(weights).count();
    if weights != 0 && weights != shares.shares.len() {
        let reason = "has shares by Repeats and by Weight: use one kind for all sources";
        return Err(Error::config("mix", reason));
    }
    match shares.epoch_samples {
        Some(_) if weights == 0 => {
            let reason = "has `epoch_samples`, and shares by Repeats, which say themselves how long \
                          an epoch is: use shares by Weight, or leave it at None";
            Err(Error::config("mix", reason))
        }
        Some(samples) if !(1..=MAX_EPOCH_SAMPLES).contains(&samples) => {
            let reason =
                format!("has `epoch_samples` at {samples}, must be 1..={MAX_EPOCH_SAMPLES}");
            Err(Error::config("mix", reason))
        }
        _ => Ok(()),
    }
}

/// A layout's samples with their weights.
#[derive(Clone, Debug)]
pub(super) struct Weighted {
    pub(super) gauge: Gauge,
    /// Of every bucket.
    pub(super) courses: Vec<Course>,
    /// For every shard and bucket of the layout's table, the weights before it.
    pub(super) rows: Vec<[u64; 2]>,
}

impl Weighted {
    /// `None` where every sample comes [`PlanSpec::repeats`] times.
    pub(super) fn new(spec: &PlanSpec, layout: &Layout) -> Result<Option<Self>, Error> {
        let Some(gauge) = Gauge::new(spec, layout)? else {
            return Ok(None);
        };
        let mut courses = Vec::new();
        let mut start = 0;
        for bucket in &layout.outline.buckets {
            let end = start + bucket.members as usize;
            let course = Course::new(&gauge, layout.members.slice(start..end));
            if course.places() > MAX_PLACES {
                let reason = format!(
                    "ask for {} deliveries of {} in an epoch, over {MAX_PLACES}: lower them",
                    course.places(),
                    bucket.size()
                );
                return Err(Error::config("weights", reason));
            }
            courses.push(course);
            start = end;
        }
        let rows = match spec.shuffle {
            Shuffle::Blocked(_) => {
                let count = courses.len();
                let table = layout.table.iter().enumerate();
                table
                    .map(|(at, member)| courses[at % count].before(&gauge, u64::from(member)))
                    .collect()
            }
            _ => Vec::new(),
        };
        Ok(Some(Self {
            gauge,
            courses,
            rows,
        }))
    }
}

/// The order of one bucket's places in one epoch.
pub(super) struct Walk<'a> {
    pub(super) weighted: &'a Weighted,
    pub(super) bucket: usize,
    pub(super) comb: Comb,
    /// Of what is drawn in this bucket and epoch.
    pub(super) key: u64,
    /// Of the places; as they are without one.
    pub(super) order: Option<super::Permutation>,
}

impl Walk<'_> {
    /// Which member of the bucket stands at a place.
    pub(super) fn member(&self, place: u64) -> u64 {
        let place = self.order.as_ref().map_or(place, |order| order.get(place));
        let (gauge, course) = (&self.weighted.gauge, &self.weighted.courses[self.bucket]);
        match place.checked_sub(course.certain()) {
            None => course.certain_at(gauge, place),
            Some(tooth) => {
                let all = 0..course.members();
                course.drawn_at(gauge, self.comb.point(tooth), (all, 0), self.key)
            }
        }
    }
}

/// The deliveries that an epoch owes each bucket.
pub(super) fn places(spec: &PlanSpec, weighted: Option<&Weighted>, at: usize, members: u64) -> u64 {
    match weighted {
        Some(weighted) => weighted.courses[at].places(),
        None => members * u64::from(spec.repeats),
    }
}
