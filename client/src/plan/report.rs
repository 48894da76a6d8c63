//! What becomes of the samples: nothing is silent.

use super::Size;

/// What becomes of the samples of one bucket, in every epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketReport {
    /// Output size.
    pub size: Size,
    /// Samples assigned to it; under [`Shuffle::Given`](super::Shuffle::Given), entries of the list.
    pub samples: u64,
    /// Deliveries that an epoch owes them: samples times repeats, or the sum of their weights, rounded.
    pub places: u64,
    /// Global batches.
    pub batches: u64,
    /// Places filled a second time to complete the last batch.
    pub padded: u64,
    /// Places left out with an incomplete last batch.
    pub dropped: u64,
}

/// A bucket that was too small to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SmallBucket {
    /// Its size.
    pub size: Size,
    /// Its samples.
    pub samples: u64,
    /// The bucket that they are in now; `None` if they are left out.
    pub into: Option<Size>,
}

/// What becomes of the samples, in every epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Samples of the dataset.
    pub samples: u64,
    /// Samples outside the subset.
    pub outside: u64,
    /// Samples in it that are never delivered, because their weight is 0.
    pub weightless: u64,
    /// One entry for each bucket that has samples.
    pub buckets: Vec<BucketReport>,
    /// Buckets that were merged or dropped for their size.
    pub small: Vec<SmallBucket>,
    /// Samples of dropped buckets.
    pub left_out: u64,
    /// Samples that cannot be transformed or read, and so are always substituted.
    pub unusable: u64,
    /// Steps of one epoch.
    pub steps: u64,
    /// Sum over the buckets.
    pub padded: u64,
    /// Sum over the buckets.
    pub dropped: u64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (samples, steps) = (self.samples, self.steps);
        let buckets = self.buckets.len();
        write!(
            f,
            "{samples} samples, {steps} steps an epoch, {buckets} buckets"
        )?;
        for (count, what) in [
            (self.outside, "samples outside the subset"),
            (self.weightless, "samples of weight 0, never delivered"),
            (self.unusable, "unusable samples, always substituted"),
            (self.left_out, "samples of small buckets left out"),
            (self.dropped, "places dropped with incomplete batches"),
            (self.padded, "places of padding"),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        for SmallBucket {
            size,
            samples,
            into,
        } in &self.small
        {
            match into {
                Some(into) => write!(f, "; {samples} samples of {size} in {into}")?,
                None => write!(f, "; {samples} samples of {size} left out")?,
            }
        }
        Ok(())
    }
}
