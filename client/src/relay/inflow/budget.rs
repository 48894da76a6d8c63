//! What the bodies of all calls may take together.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use preheat_proto::Error as CallError;

/// When told to come back because bodies fill the relay: about the time that a few of them take.
const FULL_PUSHBACK: Duration = Duration::from_millis(250);

/// Bytes that the bodies of all calls may have together.
#[derive(Debug)]
pub(in crate::relay) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(in crate::relay) fn new(limit: usize) -> Self {
        let used = AtomicUsize::new(0);
        Self { limit, used }
    }

    /// Bytes in use.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, bytes: usize) -> Result<(), CallError> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= self.limit {
            return Ok(());
        }
        self.give(bytes);
        let limit = self.limit;
        Err(CallError::busy(
            format!("the bodies of calls under way fill the {limit} bytes of this balancer"),
            FULL_PUSHBACK,
        ))
    }

    pub(super) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
