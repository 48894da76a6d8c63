//! Datasets that a spec does not fit, in words.

use crate::{
    error::Error,
    plan::{PlanSpec, Shuffle, SmallBucket, Weights},
};

/// What can only be checked beside the dataset.
pub(super) fn misfit(samples: u64, spec: &PlanSpec) -> Result<(), Error> {
    if samples > u64::from(u32::MAX) {
        let reason = format!("has {samples} samples, over {}", u32::MAX);
        return Err(Error::config("dataset", reason));
    }
    if let Weights::Given(weights) = &spec.weights
        && weights.len() as u64 != samples
    {
        let reason = format!(
            "has {} weights, and the dataset has {samples} samples: give one for each, in the order of \
             their ids",
            weights.len()
        );
        return Err(Error::config("weights", reason));
    }
    if let Shuffle::Given(ids) = &spec.shuffle
        && let Some(at) = ids.iter().position(|&id| id >= samples)
    {
        let reason = format!(
            "lists {} at place {at}, and the dataset has {samples} samples: ids are 0..={}",
            ids[at],
            samples.saturating_sub(1)
        );
        return Err(Error::config("shuffle", reason));
    }
    Ok(())
}

/// Why no bucket has a sample.
pub(super) fn nothing_left(
    spec: &PlanSpec,
    samples: u64,
    [outside, weightless]: [u64; 2],
    small: &[SmallBucket],
) -> Error {
    if outside == samples {
        let reason = format!("leaves none of the {samples} samples: widen it");
        return Error::config("subset", reason);
    }
    if weightless > 0 && outside + weightless == samples {
        let reason = format!(
            "and the shares of `mix` are 0 for each of the {weightless} samples that take part: raise \
             some, or widen `subset`"
        );
        return Error::config("weights", reason);
    }
    if let Some(largest) = small.iter().map(|small| small.samples).max() {
        let reason = format!(
            "drops all {} buckets, of which the largest has {largest} samples: lower `below`",
            small.len()
        );
        return Error::config("small_buckets", reason);
    }
    if let Some(clips) = &spec.clips {
        let reason = format!(
            "has no video that gives a clip of {:?} frames: ask for fewer or a slower pace, and cut a dataset \
             that is planned by hand first (`Dataset::delivered`)",
            clips.lengths()
        );
        return Error::config("dataset", reason);
    }
    Error::config("dataset", "has no usable image")
}
