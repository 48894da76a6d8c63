//! What of a config makes no sense.

use super::{
    BUCKET_STEPS, ClipEncoding, Config, MAX_ASPECT, MAX_BATCHES_AHEAD, MAX_CLIP_DECODERS,
    MAX_CONNECT_TIMEOUT, MAX_CONNECTIONS, MAX_GLOBAL_BATCH, MAX_PATIENCE, MAX_WINDOW_BYTES,
};
use crate::{cache::CacheConfig, error::Error};

impl Config {
    /// Checks every field that can be checked without a dataset or a replica.
    ///
    /// # Errors
    /// [`Error::Config`], naming the field.
    pub fn check(&self) -> Result<(), Error> {
        within("global_batch", self.global_batch, 1, MAX_GLOBAL_BATCH)?;
        within("world_size", self.world_size, 1, self.global_batch)?;
        if !self.global_batch.is_multiple_of(self.world_size) {
            let (batch, world) = (self.global_batch, self.world_size);
            let reason = format!("is {world}, which does not divide global_batch, {batch}");
            return Err(Error::config("world_size", reason));
        }
        within("rank", self.rank, 0, self.world_size - 1)?;
        if !BUCKET_STEPS.contains(&self.bucket_step) {
            let reason = format!("is {}, must be one of {BUCKET_STEPS:?}", self.bucket_step);
            return Err(Error::config("bucket_step", reason));
        }
        let square = u64::from(self.bucket_step) * u64::from(self.bucket_step);
        let most = preheat_proto::limits::MAX_OUTPUT_PIXELS;
        within("target_area", self.target_area, square, most)?;
        // Not `contains`: a NaN must fail too.
        if !(self.max_aspect >= 1.0 && self.max_aspect <= MAX_ASPECT) {
            let reason = format!("is {}, must be 1..={MAX_ASPECT}", self.max_aspect);
            return Err(Error::config("max_aspect", reason));
        }
        if !(0.0..=1.0).contains(&self.max_bad_share) {
            let reason = format!("is {}, must be 0..=1", self.max_bad_share);
            return Err(Error::config("max_bad_share", reason));
        }
        self.check_mix()?;
        self.check_clips()?;
        self.plan_spec().check()?;
        within("caption_dropout", self.caption_dropout, 0.0, 1.0)?;
        within("window_bytes", self.window_bytes, 1, MAX_WINDOW_BYTES)?;
        let ahead = self.max_batches_ahead;
        within("max_batches_ahead", ahead, 1, MAX_BATCHES_AHEAD)?;
        within("connections", self.connections, 1, MAX_CONNECTIONS)?;
        if !(self.weight > 0.0 && self.weight.is_finite()) {
            let reason = format!("is {}, must be above 0", self.weight);
            return Err(Error::config("weight", reason));
        }
        if self.chunk_items == Some(0) {
            return Err(Error::config("chunk_items", "is 0, must be at least 1"));
        }
        for (field, value, longest) in [
            ("connect_timeout", self.connect_timeout, MAX_CONNECT_TIMEOUT),
            ("attempt_timeout", self.attempt_timeout, MAX_PATIENCE),
            ("patience", self.patience, MAX_PATIENCE),
            ("clip_timeout", self.clip_timeout, MAX_PATIENCE),
        ] {
            if value.is_zero() || value > longest {
                let reason = format!("is {value:?}, must be above 0 and at most {longest:?}");
                return Err(Error::config(field, reason));
            }
        }
        self.cache.as_ref().map_or(Ok(()), CacheConfig::check)
    }

    /// Clips, and what means nothing without them.
    fn check_clips(&self) -> Result<(), Error> {
        if let ClipEncoding::Jpeg { quality } = self.clip_encoding
            && !(1..=100).contains(&quality)
        {
            let reason = format!("is Jpeg of quality {quality}, must be 1..=100");
            return Err(Error::config("clip_encoding", reason));
        }
        let decoders = self.clip_decoders.unwrap_or(1);
        within("clip_decoders", decoders, 1, MAX_CLIP_DECODERS)?;
        if !self.frames.is_empty() {
            return Ok(());
        }
        let one = Self::new("", "", "");
        for (field, set) in [
            ("pace", self.pace != one.pace),
            ("clip_start", self.clip_start != one.clip_start),
            ("clip_encoding", self.clip_encoding != one.clip_encoding),
            ("clip_decoders", self.clip_decoders.is_some()),
        ] {
            if set {
                let reason = "is set, and `frames` says no length of clips: give some, or leave it as \
                              it is by default";
                return Err(Error::config(field, reason));
            }
        }
        Ok(())
    }

    /// A mix, and what there must not be beside it.
    fn check_mix(&self) -> Result<(), Error> {
        let Some(mix) = &self.mix else {
            return Ok(());
        };
        mix.check()?;
        let one = Self::new("", "", "");
        for (field, set) in [
            ("dataset", self.dataset != one.dataset),
            ("store", self.store != one.store),
            ("format", self.format.is_some()),
            ("index", self.index.is_some()),
            ("index_check", self.index_check != one.index_check),
        ] {
            if set {
                let reason = "is set, and so is `mix`, whose sources have each their own: leave it \
                              as it is by default";
                return Err(Error::config(field, reason));
            }
        }
        Ok(())
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), Error> {
    // So, and not the other way round: a NaN must fail too.
    if !(value >= least && value <= most) {
        let reason = format!("is {value}, must be {least}..={most}");
        return Err(Error::config(field, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::{Block, Bucketing, Crop, Shuffle, SmallBuckets, Subset},
        plan::Size,
    };

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::new("photos", "http://[::1]:1", "vae");
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_fine() {
        Config::new("photos", "http://[::1]:1", "vae")
            .check()
            .unwrap();
    }

    #[test]
    fn nonsense_of_the_order_is_refused_by_name() {
        let crop = |least, most| Crop::RandomResized { least, most };
        assert!(refused(|c| c.crop = crop(0.5, 0.4)).contains("`crop` shows 0.5 to 0.4"));
        assert!(refused(|c| c.crop = crop(f32::NAN, 1.0)).contains("`crop`"));
        let sizes = |sizes: &[(u32, u32)]| {
            let sizes = sizes.iter().map(|&(w, h)| Size::new(w, h)).collect();
            refused(|c| c.bucketing = Bucketing::Sizes(sizes))
        };
        assert!(sizes(&[]).contains("`bucketing` has 0 sizes"));
        assert!(sizes(&[(64, 64), (64, 0)]).contains("has 64x0"));
        assert!(sizes(&[(64, 64), (64, 64)]).contains("has 64x64 twice"));
        let areas = refused(|c| c.bucketing = Bucketing::Areas(vec![1 << 18, 5]));
        assert!(areas.contains("has the area 5, must be 4096..="), "{areas}");
        let small = refused(|c| c.small_buckets = SmallBuckets::Drop { below: 1 });
        assert!(
            small.contains("`small_buckets` has `below` at 1"),
            "{small}"
        );
        let subset = |subset| refused(|c| c.subset = subset);
        assert!(subset(Subset::Range { start: 5, end: 5 }).contains("from 5 to 5"));
        assert!(subset(Subset::Ids([].into())).contains("an empty list"));
        assert!(subset(Subset::Ids([3, 7, 7].into())).contains("lists 7 after 7"));
        let share = |from, to| Subset::Fraction { from, to, seed: 0 };
        assert!(subset(share(0.5, 1.5)).contains("0.5 to 1.5"));
        assert!(subset(share(f64::NAN, 1.0)).contains("`subset`"));
        let shuffle = |shuffle| refused(|c| c.shuffle = shuffle);
        assert!(shuffle(Shuffle::Blocked(Block::Shards(0))).contains("Blocked by 0"));
        assert!(shuffle(Shuffle::Given([].into())).contains("a list of 0 ids"));
        let both = refused(|c| {
            c.shuffle = Shuffle::Given([1].into());
            c.repeats = 2;
        });
        assert!(both.contains("leave `subset` at All"), "{both}");
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        assert!(refused(|c| c.world_size = 3).contains("`world_size` is 3, which does not divide"));
        assert!(refused(|c| c.rank = 1).contains("`rank` is 1, must be 0..=0"));
        assert!(refused(|c| c.bucket_step = 24).contains("one of [8, 16, 32, 64]"));
        assert!(refused(|c| c.max_aspect = f64::NAN).contains("`max_aspect`"));
        assert!(refused(|c| c.target_area = 1).contains("`target_area`"));
        assert!(refused(|c| c.flip = 1.5).contains("`flip` is 1.5"));
        assert!(refused(|c| c.caption_dropout = f32::NAN).contains("`caption_dropout`"));
        assert!(refused(|c| c.repeats = 0).contains("`repeats` is 0"));
        assert!(refused(|c| c.patience = Duration::ZERO).contains("`patience`"));
        assert!(refused(|c| c.max_bad_share = f64::NAN).contains("`max_bad_share`"));
        assert!(refused(|c| c.max_bad_share = 1.5).contains("`max_bad_share` is 1.5"));
    }
}
