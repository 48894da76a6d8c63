//! What the parent and its ranks say to each other: a line of JSON each, over the rank's pipes.

use std::{path::PathBuf, time::Duration};

use preheat_client::Config;
use serde::{Deserialize, Serialize};

use crate::secrets::Secrets;

/// What a rank is to be: the first line that it is told. The parent makes the same config from it, to
/// know what must come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Spec {
    pub(super) dataset: PathBuf,
    /// Its index; `None` for the usual place.
    pub(super) index: Option<PathBuf>,
    pub(super) endpoint: String,
    pub(super) secrets: Secrets,
    pub(super) model: String,
    /// Number of its trainer: the seed, so that trainers do not march in step.
    pub(super) trainer: u64,
    pub(super) rank: u32,
    pub(super) world_size: u32,
    pub(super) global_batch: u32,
    pub(super) target_area: u64,
    /// Of clips; empty for images.
    pub(super) frames: Vec<u32>,
    pub(super) window_bytes: u64,
    pub(super) batches_ahead: u32,
    /// How long a step computes.
    pub(super) step: Duration,
    /// Standard deviation of that, as a share.
    pub(super) jitter: f64,
    /// A model to encode with in the rank's own process, between the steps, instead of the loader.
    pub(super) in_loop: Option<InLoop>,
}

/// How to encode in the trainer's process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct InLoop {
    pub(super) source: String,
    pub(super) device: String,
}

impl Spec {
    /// The run of the rank's loader.
    pub(super) fn config(&self) -> Config {
        Config {
            security: self.secrets.security(),
            seed: self.trainer,
            rank: self.rank,
            world_size: self.world_size,
            global_batch: self.global_batch,
            target_area: self.target_area,
            frames: self.frames.clone(),
            window_bytes: self.window_bytes,
            max_batches_ahead: self.batches_ahead,
            index: self.index.clone(),
            trainer: Some(format!("trainer-{}", self.trainer)),
            ..Config::new(&self.dataset, &self.endpoint, &self.model)
        }
    }
}

/// What the parent says after the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// All ranks have arrived: do the next step.
    Go,
    /// That was the last one.
    End,
}

/// What a rank says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// The loader runs; resident bytes of the process before it did.
    Ready { resident: u64 },
    /// A step is done, and waits for the other ranks.
    Step(Step),
    /// The answer to [`Order::End`], and the last that is said.
    Bye(Bye),
    /// It goes no further.
    Failed(String),
}

/// One step of one rank.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) epoch: u64,
    pub(super) step: u64,
    /// The samples that it got, in order.
    pub(super) ids: Vec<u64>,
    /// How long it waited for them.
    pub(super) waited: Duration,
    /// How long it computed then.
    pub(super) computed: Duration,
    /// User and system time of the process since its start, and of those that it started.
    pub(super) cpu: Duration,
    /// The part of it that was FFmpeg's, in processes that have ended.
    pub(super) decoding: Duration,
    /// Batches that were complete when it came to take one.
    pub(super) ready: u64,
    /// Bytes that the window held then.
    pub(super) held: u64,
}

impl Step {
    /// Images in complete batches when it came to take one.
    pub(super) const fn stock(&self) -> u64 {
        self.ready * self.ids.len() as u64
    }
}

/// What there is to say at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Bye {
    pub(super) retries: u64,
    pub(super) hedges: u64,
    /// Most bytes that the window ever held.
    pub(super) peak: u64,
}
