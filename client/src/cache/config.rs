//! Where the cache is, what it holds, and how much of it.

use std::{path::PathBuf, time::Duration};

use crate::error::Error;

/// Smallest [`CacheConfig::max_bytes`]: a few entries.
pub const MIN_CACHE_BYTES: u64 = 64 * 1024;
/// Largest [`CacheConfig::max_bytes`]: 1 PiB.
pub const MAX_CACHE_BYTES: u64 = 1 << 50;
/// Default of [`CacheConfig::keep`]: longer than almost any epoch.
pub const DEFAULT_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest [`CacheConfig::keep`]: ten years.
const MAX_KEEP: Duration = Duration::from_secs(3650 * 24 * 3600);

/// What a run does with the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Takes what is there, and changes nothing.
    Read,
    /// Takes nothing, and adds what it encodes.
    Write,
    /// Takes what is there, and adds the rest.
    Both,
}

impl CacheMode {
    pub(crate) fn reads(self) -> bool {
        self != Self::Write
    }

    pub(crate) fn writes(self) -> bool {
        self != Self::Read
    }
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheWhat {
    /// The latent as it is delivered.
    Latents,
    /// Mean and log-variance in `f32`, from which the loader makes what is delivered: posterior draws
    /// stay fresh in every epoch, and one entry serves every posterior choice, scale and dtype.
    Moments,
}

/// The latent cache of a run. It never changes what is delivered, so it is no part of a saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// A folder on a local disk, made where it is missing. Runs and processes may share it.
    pub folder: PathBuf,
    /// Whether to read, to write, or both.
    pub mode: CacheMode,
    /// Bytes that the folder may hold, over all who share it, in blocks of 4 KiB. Each process that
    /// writes may exceed it by a 64th.
    pub max_bytes: u64,
    /// What an entry holds.
    pub what: CacheWhat,
    /// Entries that were used within this time are not removed to make room: when nothing else is
    /// left, nothing more is written. In training every sample comes once an epoch, so to remove
    /// the one that was used longest ago is to remove the one that is needed soonest; set this to
    /// more than an epoch. Entries of other models and settings are kept for an hour at most.
    pub keep: Duration,
}

impl CacheConfig {
    /// Latents, read and written, kept for a week.
    pub fn new(folder: impl Into<PathBuf>, max_bytes: u64) -> Self {
        Self {
            folder: folder.into(),
            mode: CacheMode::Both,
            max_bytes,
            what: CacheWhat::Latents,
            keep: DEFAULT_KEEP,
        }
    }

    /// # Errors
    /// [`Error::Config`], naming the field.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.folder.as_os_str().is_empty() {
            let reason = "is empty: name a folder on a local disk";
            return Err(Error::config("cache.folder", reason));
        }
        let bytes = self.max_bytes;
        if !(MIN_CACHE_BYTES..=MAX_CACHE_BYTES).contains(&bytes) {
            let reason = format!("is {bytes}, must be {MIN_CACHE_BYTES}..={MAX_CACHE_BYTES}");
            return Err(Error::config("cache.max_bytes", reason));
        }
        if self.keep > MAX_KEEP {
            let reason = format!("is {:?}, must be at most {MAX_KEEP:?}", self.keep);
            return Err(Error::config("cache.keep", reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_by_name() {
        let refused = |change: fn(&mut CacheConfig)| {
            let mut config = CacheConfig::new("latents", 1 << 30);
            config.check().unwrap();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(refused(|c| c.folder = PathBuf::new()).contains("`cache.folder` is empty"));
        assert!(refused(|c| c.max_bytes = 9).contains("`cache.max_bytes` is 9, must be 65536..="));
        assert!(refused(|c| c.keep = Duration::MAX).contains("`cache.keep`"));
    }
}
