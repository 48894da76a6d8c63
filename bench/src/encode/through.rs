//! The same images or clips through a loader and a replica, for comparison with plain encode calls.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use preheat_client::{Config, DataLoader};
use tempfile::TempDir;

use super::{Args, Case};
use crate::{clips, photos, replica::Replica};

/// A replica with one model, and photos enough for one measurement.
pub(super) struct ThroughLoader {
    replica: Replica,
    folder: TempDir,
    size: u32,
    batch: u32,
    images: usize,
    /// Of a clip; empty for photos.
    frames: Vec<u32>,
}

/// One replica per case, each with the case's batch as its device batch. Idle ones cost nothing.
pub(super) fn start(args: &Args, cases: &[Case]) -> anyhow::Result<Vec<ThroughLoader>> {
    cases
        .iter()
        .map(|case| ThroughLoader::start(args, case))
        .collect()
}

impl ThroughLoader {
    fn start(args: &Args, case: &Case) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("creating a temporary folder")?;
        // No more, or the replica would still be at work in somebody else's turn.
        if args.frames > 1 {
            clips::unpack_videos(folder.path(), case.images)?;
        } else {
            photos::unpack(folder.path(), case.images)?;
        }
        let batch = u32::try_from(case.batch).context("batch")?;
        let pixels = u64::from(case.size).pow(2) * u64::from(batch) * args.frames as u64;
        let options = [
            "--model".to_owned(),
            format!("vae={}", args.model),
            "--listen=127.0.0.1:0".to_owned(),
            format!("--device={}", args.device),
            format!("--dtype={}", args.dtype[case.lane]),
            format!("--max-batch={batch}"),
            format!("--batch-pixels={pixels}"),
        ];
        let replica = Replica::start(&options.each_ref().map(String::as_str))?;
        let this = Self {
            replica,
            folder,
            size: case.size,
            batch,
            images: case.images,
            frames: match args.frames {
                1 => Vec::new(),
                frames => vec![u32::try_from(frames).context("frames")?],
            },
        };
        // Page faults and caches of the first calls are nobody's rate.
        this.measure(1)?;
        Ok(this)
    }

    /// Time from opening a loader to its last batch: as many images as the case encodes in process.
    pub(super) fn run(&self) -> anyhow::Result<Duration> {
        self.measure(self.images.div_ceil(self.batch as usize))
    }

    fn measure(&self, batches: usize) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let mut loader = DataLoader::new(Config {
            global_batch: self.batch,
            epochs: Some(1),
            target_area: u64::from(self.size).pow(2),
            bucket_step: 8,
            max_aspect: 1.0,
            frames: self.frames.clone(),
            // One request a batch, so that the replica sees the batches that were asked for.
            chunk_items: Some(self.batch),
            chunk_pixels: Some(u64::MAX),
            index: Some(self.folder.path().join("samples.index")),
            ..Config::new(self.folder.path(), self.replica.endpoint(), "vae")
        })?;
        for taken in 0..batches {
            let batch = loader.next_batch()?;
            let batch = batch.with_context(|| format!("the epoch ended after {taken} batches"))?;
            ensure!(
                batch.bucket.width == self.size,
                "an unexpected size: {:?}",
                batch.bucket
            );
        }
        Ok(start.elapsed())
    }
}
