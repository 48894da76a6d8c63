//! Look-ahead: how many batches may be under way or held before the trainer takes them, bounded in
//! bytes and in number, and when each of them will be needed.
//!
//! The loader admits batches in order and the trainer takes them in order; between the two they
//! complete in any order, so a slow one delays no other's fetch.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Bytes are counted in units of this, because permits are counted in 32 bits.
const UNIT_BYTES: u64 = 4096;
/// Weight of the newest step in the estimate of the trainer's step time.
const PACE_WEIGHT: f64 = 0.2;
/// A step that took longer than this was a pause (evaluation, a checkpoint), not a step.
const LONGEST_STEP: Duration = Duration::from_secs(600);

/// Batches are needed at least this far apart: longer than calls overtake each other on their way to
/// a replica, shorter than the steps of almost any trainer.
const SHORTEST_STEP: Duration = Duration::from_millis(50);

/// The look-ahead of one loader.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    bytes: Arc<Semaphore>,
    batches: Arc<Semaphore>,
    units: u32,
    slots: u32,
    pace: Arc<Mutex<Pace>>,
}

/// Room for one batch, given back on drop.
#[derive(Debug)]
pub(crate) struct Admission {
    bytes: OwnedSemaphorePermit,
    _batch: OwnedSemaphorePermit,
}

/// How fast the trainer takes batches, as if it never had to wait for one.
#[derive(Debug, Default)]
struct Pace {
    step: Option<Duration>,
    last_taken: Option<Instant>,
    /// Batches admitted and taken since the start.
    admitted: u64,
    taken: u64,
}

impl Window {
    pub(crate) fn new(bytes: u64, batches: u32) -> Self {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        Self {
            bytes: Arc::new(Semaphore::new(units as usize)),
            batches: Arc::new(Semaphore::new(batches as usize)),
            units,
            slots: batches,
            pace: Arc::default(),
        }
    }

    /// Waits for room. A batch larger than the window gets all of it, and so is alone.
    pub(crate) async fn admit(&self, bytes: u64) -> Admission {
        let closed = "the semaphores of a window are never closed";
        let batch = self.batches.clone().acquire_owned().await.expect(closed);
        let units = self.units_of(bytes);
        let bytes = self
            .bytes
            .clone()
            .acquire_many_owned(units)
            .await
            .expect(closed);
        self.pace().admitted += 1;
        Admission {
            bytes,
            _batch: batch,
        }
    }

    /// When the batch admitted last will be needed: after all before it, at the trainer's pace. A
    /// trainer that waits, as at the start, needs them at once, but still one after the other:
    /// replicas serve what is needed first, and must not do the tenth batch before the first.
    pub(crate) fn needed_at(&self) -> Instant {
        let pace = self.pace();
        let now = Instant::now();
        let ahead = u32::try_from(pace.admitted.saturating_sub(pace.taken)).unwrap_or(u32::MAX);
        let step = pace.step.unwrap_or_default();
        let soonest = now
            + step
                .max(SHORTEST_STEP)
                .saturating_mul(ahead.saturating_sub(1));
        match pace.last_taken {
            Some(last) => soonest.max(last + step.saturating_mul(ahead)),
            None => soonest,
        }
    }

    /// The trainer asked for a batch at `now`: its step had ended.
    pub(crate) fn asked(&self, now: Instant) {
        let mut pace = self.pace();
        let Some(last) = pace.last_taken else { return };
        let step = now.saturating_duration_since(last);
        if step > LONGEST_STEP {
            return;
        }
        pace.step = Some(pace.step.map_or(step, |mean| {
            mean.mul_f64(1.0 - PACE_WEIGHT) + step.mul_f64(PACE_WEIGHT)
        }));
    }

    /// The trainer has its batch: its next step begins.
    pub(crate) fn taken(&self) {
        let mut pace = self.pace();
        pace.taken += 1;
        pace.last_taken = Some(Instant::now());
    }

    /// Bytes admitted and not given back, in whole units.
    pub(crate) fn bytes_held(&self) -> u64 {
        (u64::from(self.units) - self.bytes.available_permits() as u64) * UNIT_BYTES
    }

    /// Batches admitted and not given back.
    pub(crate) fn batches_held(&self) -> u32 {
        self.slots - u32::try_from(self.batches.available_permits()).unwrap_or(self.slots)
    }

    /// Most batches held at once.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    fn units_of(&self, bytes: u64) -> u32 {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        units.min(self.units)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// Gives back all but `bytes`, once a batch's files are no longer needed.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        let keep = usize::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(usize::MAX);
        let surplus = self.bytes.num_permits().saturating_sub(keep);
        drop(self.bytes.split(surplus));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const KIB: u64 = 1024;

    #[tokio::test]
    async fn bytes_are_bounded() {
        let window = Window::new(64 * KIB, 100);
        let first = window.admit(40 * KIB).await;
        assert!(window.admit(40 * KIB).now_or_never().is_none());
        assert_eq!(window.bytes_held(), 40 * KIB);
        drop(first);
        let mut second = window.admit(40 * KIB).await;
        second.shrink(8 * KIB);
        assert_eq!(window.bytes_held(), 8 * KIB);
        assert!(window.admit(40 * KIB).now_or_never().is_some());
    }

    #[tokio::test]
    async fn batches_are_bounded() {
        let window = Window::new(64 * KIB, 2);
        let _one = window.admit(1).await;
        let two = window.admit(1).await;
        assert_eq!(window.batches_held(), 2);
        assert!(window.admit(1).now_or_never().is_none());
        drop(two);
        assert!(window.admit(1).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_giant_is_admitted_alone() {
        let window = Window::new(64 * KIB, 2);
        let small = window.admit(1).await;
        assert!(window.admit(u64::MAX).now_or_never().is_none());
        drop(small);
        let giant = window.admit(u64::MAX).await;
        assert!(window.admit(1).now_or_never().is_none());
        assert_eq!(window.bytes_held(), 64 * KIB);
        drop(giant);
        assert_eq!(window.bytes_held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_trainer_needs_batches_in_order() {
        let window = Window::new(64 * KIB, 9);
        let mut needs = Vec::new();
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(window.admit(1).await);
            needs.push(window.needed_at());
        }
        assert_eq!(needs[0], Instant::now());
        assert!(needs.is_sorted_by(|a, b| a < b), "{needs:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn needs_follow_the_pace() {
        let window = Window::new(64 * KIB, 9);
        let _one = window.admit(1).await;
        assert_eq!(window.needed_at(), Instant::now());
        for _ in 0..3 {
            window.asked(Instant::now());
            window.taken();
            tokio::time::advance(Duration::from_millis(200)).await;
        }
        window.asked(Instant::now());
        window.taken();
        let _more = [window.admit(1).await, window.admit(1).await];
        let _more = [
            window.admit(1).await,
            window.admit(1).await,
            window.admit(1).await,
        ];
        let ahead = window.needed_at() - Instant::now();
        assert_eq!(ahead.as_millis(), 400);
    }
}
