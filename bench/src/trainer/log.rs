//! What is kept of a run: a line for each step of a trainer, and what its processes used.

use std::time::Duration;

use super::protocol::{Bye, Step};
use crate::load::usage::Usage;

/// One step of a trainer, over its ranks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Beat {
    /// When all ranks had done it, since the start.
    pub(super) at: Duration,
    /// How long each rank waited for its batch.
    pub(super) waits: Vec<Duration>,
    /// How long the slowest rank took from having its batch.
    pub(super) computed: Duration,
    /// Complete batches of the rank that had fewest, when the step began.
    pub(super) ready: u64,
    /// Images in the complete batches of all ranks then.
    pub(super) stock: u64,
    /// Bytes in the fullest window then.
    pub(super) held: u64,
    /// Images of all ranks.
    pub(super) images: u64,
}

/// What one rank used.
#[derive(Clone, Debug, Default)]
pub(super) struct RankLog {
    /// Resident bytes before the loader.
    pub(super) resident_before: u64,
    /// Most resident bytes seen.
    pub(super) resident: u64,
    /// Processor time when the measured time began and at its last step.
    pub(super) cpu: [Duration; 2],
    /// The part of it that was FFmpeg's, in processes that have ended.
    pub(super) decoding: [Duration; 2],
    /// What the system counted over about the same time.
    pub(super) usage: Option<[Usage; 2]>,
    /// Images that its steps took within it.
    pub(super) images: u64,
    /// Images that were ready when it began and at its last step.
    pub(super) stock: [u64; 2],
    pub(super) bye: Bye,
    pub(super) ended: bool,
}

/// One trainer.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) beats: Vec<Beat>,
    /// The step with whose end the measured time begins.
    pub(super) begun: Option<usize>,
    pub(super) ranks: Vec<RankLog>,
    /// Its ranks were told that this was all.
    pub(super) over: bool,
}

impl Beat {
    pub(super) fn new(at: Duration, steps: &[Step]) -> Self {
        Self {
            at,
            waits: steps.iter().map(|step| step.waited).collect(),
            computed: steps
                .iter()
                .map(|step| step.computed)
                .max()
                .unwrap_or_default(),
            ready: steps.iter().map(|step| step.ready).min().unwrap_or(0),
            stock: steps.iter().map(Step::stock).sum(),
            held: steps.iter().map(|step| step.held).max().unwrap_or(0),
            images: steps.iter().map(|step| step.ids.len() as u64).sum(),
        }
    }

    /// How long the trainer stood still for its data: as long as the rank that had to wait longest,
    /// since the others cannot go on without it.
    pub(super) fn stalled(&self) -> Duration {
        self.waits.iter().max().copied().unwrap_or_default()
    }

    /// When it began to wait, and when the data was there.
    pub(super) fn stall(&self) -> [Duration; 2] {
        let until = self.at.saturating_sub(self.computed);
        [until.saturating_sub(self.stalled()), until]
    }
}

impl Log {
    /// The next step. The measured time begins with the end of the first one past the warm-up.
    pub(super) fn beat(&mut self, beat: Beat, steps: &[Step], warm_up: Duration) {
        let begins = self.begun.is_none() && beat.at >= warm_up;
        for (rank, step) in self.ranks.iter_mut().zip(steps) {
            let now = (step.cpu, step.decoding, step.stock());
            (rank.cpu[1], rank.decoding[1], rank.stock[1]) = now;
            if begins {
                (rank.cpu[0], rank.decoding[0], rank.stock[0]) = now;
            } else if self.begun.is_some() {
                rank.images += step.ids.len() as u64;
            }
        }
        if begins {
            self.begun = Some(self.beats.len());
        }
        self.beats.push(beat);
    }

    pub(super) const fn is_measured(&self) -> bool {
        self.begun.is_some()
    }

    /// The steps of the warm-up.
    pub(super) fn before(&self) -> &[Beat] {
        let to = self.begun.map_or(self.beats.len(), |begun| begun + 1);
        &self.beats[..to]
    }

    /// The steps within the measured time.
    pub(super) fn measured(&self) -> &[Beat] {
        let from = self.begun.map_or(self.beats.len(), |begun| begun + 1);
        &self.beats[from..]
    }

    /// When that began, and when its last step ended: both zero before it has begun.
    pub(super) fn span(&self) -> [Duration; 2] {
        let begun = self.begun.map(|begun| self.beats[begun].at);
        match (begun, self.beats.last()) {
            (Some(from), Some(last)) => [from, last.at],
            _ => [Duration::ZERO; 2],
        }
    }
}

impl RankLog {
    /// What the system says of the process.
    pub(super) fn look(&mut self, usage: Usage, measured: bool) {
        self.resident = self.resident.max(usage.resident);
        if measured {
            let [from, _] = self.usage.unwrap_or([usage; 2]);
            self.usage = Some([from, usage]);
        }
    }

    /// Images that the loader had encoded within it: those that were taken, and those by which there are
    /// more ready now. A window that fills costs time for images that no step has seen yet.
    pub(super) const fn came(&self) -> u64 {
        let [first, last] = self.stock;
        (self.images + last).saturating_sub(first)
    }

    /// Processor time for each of them, if there were any.
    pub(super) fn cpu_per_image(&self) -> Option<Duration> {
        let used = self.cpu[1].saturating_sub(self.cpu[0]);
        let came = self.came();
        (came > 0).then(|| used.div_f64(came as f64))
    }

    /// Memory that came with the loader.
    pub(super) const fn grown(&self) -> u64 {
        self.resident.saturating_sub(self.resident_before)
    }
}
