//! What random runs have met.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use preheat_client::{Batch, DataLoader};

/// What has happened, over all cases.
#[derive(Debug, Default)]
pub(super) struct Seen {
    steps: AtomicU64,
    pub(super) interruptions: AtomicU64,
    pub(super) errors: AtomicU64,
    substituted: AtomicU64,
    masked: AtomicU64,
    retries: AtomicU64,
    hedges: AtomicU64,
}

impl Seen {
    pub(super) fn all(&self) -> [(&'static str, u64); 7] {
        [
            ("step", &self.steps),
            ("interruption", &self.interruptions),
            ("error", &self.errors),
            ("substitute", &self.substituted),
            ("masked place", &self.masked),
            ("retry", &self.retries),
            ("hedge", &self.hedges),
        ]
        .map(|(what, count)| (what, count.load(SeqCst)))
    }

    pub(super) fn step(&self, ranks: &[Option<Batch>]) {
        self.steps.fetch_add(1, SeqCst);
        for sample in ranks.iter().flatten().flat_map(|batch| &batch.samples) {
            self.masked.fetch_add(u64::from(!sample.valid), SeqCst);
            let substituted = u64::from(sample.substitute_of.is_some());
            self.substituted.fetch_add(substituted, SeqCst);
        }
    }

    pub(super) fn end(&self, ranks: &[DataLoader]) {
        for stats in ranks.iter().map(DataLoader::stats) {
            self.retries.fetch_add(stats.retries, SeqCst);
            self.hedges.fetch_add(stats.hedges, SeqCst);
        }
    }
}
