//! What of a spec can be checked without a dataset.

use preheat_proto::limits;

use super::{Block, Buckets, Crop, PlanSpec, Shuffle, Size, SmallBuckets, Subset, weights};
use crate::error::Error;

/// Most [`PlanSpec::repeats`]: with a 32-bit number of samples, places are far below 2^62.
pub const MAX_REPEATS: u32 = 1 << 16;
/// Most sizes, or areas, of [`Buckets`]: few enough to name in a saved state.
pub const MAX_SIZES: usize = 512;
/// Most ids of a list: what fits the same 32 bits as the samples.
pub const MAX_IDS: usize = u32::MAX as usize;

impl PlanSpec {
    /// Checks everything that needs no dataset.
    ///
    /// # Errors
    /// [`Error::Config`], naming the field of [`Config`](crate::Config).
    pub fn check(&self) -> Result<(), Error> {
        if !(1..=MAX_REPEATS).contains(&self.repeats) {
            let reason = format!("is {}, must be 1..={MAX_REPEATS}", self.repeats);
            return Err(Error::config("repeats", reason));
        }
        self.check_buckets()?;
        self.check_clips()?;
        self.check_subset()?;
        self.check_shuffle()?;
        weights::check(self)?;
        if let SmallBuckets::Merge { below } | SmallBuckets::Drop { below } = self.small_buckets
            && below < 2
        {
            let reason = format!("has `below` at {below}, which no bucket is: use Keep, or 2 on");
            return Err(Error::config("small_buckets", reason));
        }
        let flip = self.transform.flip;
        if !(0.0..=1.0).contains(&flip) {
            let reason = format!("is {flip}, must be a probability, 0 to 1");
            return Err(Error::config("flip", reason));
        }
        if let Crop::RandomResized { least, most } = self.transform.crop
            && !(least > 0.0 && least <= most && most <= 1.0)
        {
            let reason = format!(
                "shows {least} to {most} of the image: both must be above 0 and at most 1, the \
                 smaller one first"
            );
            return Err(Error::config("crop", reason));
        }
        Ok(())
    }

    fn check_buckets(&self) -> Result<(), Error> {
        let (field, count, most) = match &self.buckets {
            Buckets::Aspect { .. } => return Ok(()),
            Buckets::Areas { areas, .. } => ("areas", areas.len(), MAX_SIZES),
            Buckets::Sizes(sizes) => ("sizes", sizes.len(), MAX_SIZES),
        };
        if !(1..=most).contains(&count) {
            let reason = format!("has {count} {field}, must have 1..={most}");
            return Err(Error::config("bucketing", reason));
        }
        if let Buckets::Areas { areas, step, .. } = &self.buckets {
            let least = u64::from(*step).pow(2);
            let odd = |area: &&u64| !(least..=limits::MAX_OUTPUT_PIXELS).contains(area);
            if let Some(area) = areas.iter().find(odd) {
                let most = limits::MAX_OUTPUT_PIXELS;
                let reason = format!("has the area {area}, must be {least}..={most}");
                return Err(Error::config("bucketing", reason));
            }
        }
        let Buckets::Sizes(sizes) = &self.buckets else {
            return Ok(());
        };
        let odd = |size: &&Size| {
            let side = 1..=limits::MAX_SIDE;
            let sides = side.contains(&size.width) && side.contains(&size.height);
            !sides || size.area() > limits::MAX_OUTPUT_PIXELS
        };
        if let Some(size) = sizes.iter().find(odd) {
            let (side, area) = (limits::MAX_SIDE, limits::MAX_OUTPUT_PIXELS);
            let reason =
                format!("has {size}: sides must be 1..={side}, and the area at most {area}");
            return Err(Error::config("bucketing", reason));
        }
        let mut sorted = sizes.clone();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let reason = format!("has {} twice: leave one out", pair[0]);
            return Err(Error::config("bucketing", reason));
        }
        Ok(())
    }

    fn check_clips(&self) -> Result<(), Error> {
        let Some(clips) = &self.clips else {
            return Ok(());
        };
        clips.check()?;
        let longest = clips.frames.iter().max().copied().unwrap_or(1);
        let largest = self
            .buckets
            .sizes()
            .into_iter()
            .max_by_key(|size| size.area());
        let most = limits::MAX_OUTPUT_PIXELS;
        match largest.map(|size| size.with_frames(longest)) {
            Some(size) if size.pixels() > most => {
                let pixels = size.pixels();
                let reason = format!(
                    "has {longest}, and a clip of {size} has {pixels} pixels, over {most}: take fewer \
                     frames, or smaller ones"
                );
                Err(Error::config("frames", reason))
            }
            _ => Ok(()),
        }
    }

    fn check_subset(&self) -> Result<(), Error> {
        let reason = match &self.subset {
            Subset::All => return Ok(()),
            Subset::Range { start, end } if start < end => return Ok(()),
            Subset::Range { start, end } => {
                format!("is from {start} to {end}: the end is the id after the last, and larger")
            }
            // Not `contains`: a NaN must fail too.
            &Subset::Fraction { from, to, .. } if from >= 0.0 && from < to && to <= 1.0 => {
                return Ok(());
            }
            Subset::Fraction { from, to, .. } => {
                format!("is the share from {from} to {to}: 0 to 1, the smaller one first")
            }
            Subset::Ids(ids) if ids.is_empty() => "is an empty list: name some ids".into(),
            Subset::Ids(ids) => match ids.windows(2).find(|pair| pair[0] >= pair[1]) {
                None => return Ok(()),
                Some(pair) => format!(
                    "lists {} after {}: ids must ascend, each once; for an order of your own, or \
                     to repeat samples, use the shuffle Given",
                    pair[1], pair[0]
                ),
            },
        };
        Err(Error::config("subset", reason))
    }

    fn check_shuffle(&self) -> Result<(), Error> {
        let reason = match &self.shuffle {
            Shuffle::Full | Shuffle::None => return Ok(()),
            Shuffle::Blocked(Block::Shards(0) | Block::Samples(0)) => {
                "is Blocked by 0: a group needs a shard at least".to_owned()
            }
            Shuffle::Blocked(_) => return Ok(()),
            Shuffle::Given(ids) if ids.is_empty() || ids.len() > MAX_IDS => {
                format!("is a list of {} ids, must be 1..={MAX_IDS}", ids.len())
            }
            Shuffle::Given(_) if self.subset != Subset::All || self.repeats != 1 => {
                "is Given, which says itself what takes part and how often: leave `subset` at All \
                 and `repeats` at 1"
                    .to_owned()
            }
            Shuffle::Given(_) => return Ok(()),
        };
        Err(Error::config("shuffle", reason))
    }
}
