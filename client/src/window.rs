//! Look-ahead: how many batches may be under way or held before the trainer takes them, bounded in
//! bytes and in number, and when each of them will be needed.
//!
//! The loader admits batches in order and the trainer takes them in order; between the two they
//! complete in any order, so a slow one delays no other's fetch.
//!
//! How deep it is follows from two things. What is *held* goes to the bounds and stays there: a stop of
//! the fleet is ridden out by what was complete before it, so complete batches have no other limit.
//! What is *under way* follows the latency of answers and the trainer's pace ([`depth`]): it covers the
//! time of an answer several times over, so the window fills several times faster than it is emptied,
//! and does not fall upon a fleet that others share with all it could want. What is needed first is
//! served first in any case, because every request says when it is needed ([`pace`]).

mod depth;
mod pace;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use self::{depth::Depth, pace::Pace};

/// Bytes are counted in units of this, because permits are counted in 32 bits.
const UNIT_BYTES: u64 = 4096;

/// The look-ahead of one loader.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    bytes: Arc<Semaphore>,
    batches: Arc<Semaphore>,
    units: u32,
    slots: u32,
    flow: Arc<Flow>,
}

#[derive(Debug, Default)]
struct Flow {
    state: Mutex<(Pace, Depth)>,
    /// A batch is no longer under way, or the pace has changed. One task admits.
    changed: Notify,
}

impl Flow {
    fn lock(&self) -> MutexGuard<'_, (Pace, Depth)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one batch, given back on drop.
#[derive(Debug)]
pub(crate) struct Admission {
    bytes: OwnedSemaphorePermit,
    _batch: OwnedSemaphorePermit,
    under_way: UnderWay,
}

/// One batch under way, until this is dropped.
#[derive(Debug)]
struct UnderWay {
    flow: Arc<Flow>,
    id: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.flow.lock().1.ends(self.id);
        self.flow.changed.notify_one();
    }
}

impl Window {
    pub(crate) fn new(bytes: u64, batches: u32) -> Self {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        Self {
            bytes: Arc::new(Semaphore::new(units as usize)),
            batches: Arc::new(Semaphore::new(batches as usize)),
            units,
            slots: batches,
            flow: Arc::default(),
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
        Admission {
            bytes,
            _batch: batch,
            under_way: self.begin().await,
        }
    }

    /// Waits until few enough are under way.
    async fn begin(&self) -> UnderWay {
        loop {
            let until = {
                let now = Instant::now();
                let (pace, depth) = &mut *self.flow.lock();
                match depth.room(pace.step(), now) {
                    Ok(()) => {
                        pace.admitted();
                        let (flow, id) = (self.flow.clone(), depth.begins(now));
                        return UnderWay { flow, id };
                    }
                    Err(until) => until,
                }
            };
            tokio::select! {
                () = self.flow.changed.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// When the batch admitted last will be needed.
    pub(crate) fn needed_at(&self) -> Instant {
        self.flow.lock().0.needed_at(Instant::now())
    }

    /// The trainer asked for a batch at `now`: its step had ended. Says how long that took; `None` for
    /// the first.
    pub(crate) fn asked(&self, now: Instant) -> Option<Duration> {
        let step = self.flow.lock().0.asked(now);
        self.flow.changed.notify_one();
        step
    }

    /// The trainer has its batch: its next step begins.
    pub(crate) fn taken(&self) {
        self.flow.lock().0.taken(Instant::now());
    }

    /// Bytes admitted and not given back, in whole units.
    pub(crate) fn bytes_held(&self) -> u64 {
        (u64::from(self.units) - self.bytes.available_permits() as u64) * UNIT_BYTES
    }

    /// Batches admitted and not given back.
    pub(crate) fn batches_held(&self) -> u32 {
        self.slots - u32::try_from(self.batches.available_permits()).unwrap_or(self.slots)
    }

    /// Batches that are not complete.
    pub(crate) fn under_way(&self) -> u32 {
        u32::try_from(self.flow.lock().1.len()).unwrap_or(self.slots)
    }

    /// Most batches under way at the trainer's pace and the fleet's latency.
    pub(crate) fn target(&self) -> u32 {
        let (pace, depth) = &*self.flow.lock();
        let target = depth.target(pace.step());
        u32::try_from(target).unwrap_or(u32::MAX).min(self.slots)
    }

    /// Most batches held at once.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    fn units_of(&self, bytes: u64) -> u32 {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        units.min(self.units)
    }
}

impl Admission {
    /// The batch is complete, and waited for free replicas for `queued` of its time. Gives back all
    /// but `bytes`: its files are no longer needed.
    pub(crate) fn complete(&mut self, bytes: u64, queued: Duration) {
        let UnderWay { flow, id } = &self.under_way;
        flow.lock().1.completes(*id, Instant::now(), queued);
        flow.changed.notify_one();
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
        second.complete(8 * KIB, Duration::ZERO);
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
        let window = Window::new(64 * KIB, 20);
        let mut held = vec![window.admit(1).await];
        assert_eq!(window.needed_at(), Instant::now());
        for _ in 0..8 {
            window.asked(Instant::now());
            window.taken();
            tokio::time::advance(Duration::from_millis(200)).await;
        }
        window.asked(Instant::now());
        window.taken();
        while held.len() < 11 {
            held.push(window.admit(1).await);
            held.iter_mut()
                .for_each(|one| one.complete(1, Duration::ZERO));
        }
        let ahead = window.needed_at() - Instant::now();
        assert_eq!(ahead.as_millis(), 400);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_bounded_and_what_is_complete_is_not() {
        let window = Window::new(1024 * KIB, 100);
        let mut held = Vec::new();
        while let Some(one) = window.admit(1).now_or_never() {
            held.push(one);
        }
        let first = held.len();
        assert!((2..100).contains(&first), "{first}");
        assert_eq!(
            (window.under_way(), window.target()),
            (first as u32, first as u32)
        );
        // Each that completes lets another one in, and one more.
        held[0].complete(1, Duration::ZERO);
        assert_eq!(window.under_way(), first as u32 - 1);
        held.extend([window.admit(1).await, window.admit(1).await]);
        assert!(window.admit(1).now_or_never().is_none());
        while window.batches_held() < 100 {
            for one in &mut held {
                one.complete(1, Duration::ZERO);
            }
            held.push(window.admit(1).await);
        }
        for one in &mut held {
            one.complete(1, Duration::ZERO);
        }
        assert_eq!((window.batches_held(), window.under_way()), (100, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fleet_that_stops_is_asked_for_all_that_has_room() {
        let window = Window::new(1024 * KIB, 30);
        let start = Instant::now();
        let mut held = Vec::new();
        while held.len() < 30 {
            held.push(window.admit(1).await);
        }
        assert!(start.elapsed() < Duration::from_secs(10), "by time alone");
    }
}
