//! Admission: how many pixels and bytes may be inside the replica, for whom there is time, and when to
//! come back.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Refusal, pace::Pace};
use crate::metrics::Metrics;

/// The shortest and longest pushback; the first also stands in before anything was measured.
const PUSHBACK: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(5)];

/// The part of its caller's patience that a call may be expected to wait, in tenths: the expectation
/// is never exact, and a call that comes too late has cost as much as one in time. Without this a
/// replica with more to do than it can would in the end answer every call just too late.
const PATIENCE_TENTHS: u32 = 8;

/// Payload bytes are counted in units of this many, because a semaphore hands out `u32`.
const BYTES_UNIT: usize = 1024;

/// The bound on what is inside the replica.
#[derive(Debug)]
pub(crate) struct Queue {
    pixels: Arc<Semaphore>,
    pixels_limit: u32,
    bytes: Arc<Semaphore>,
    bytes_limit: u32,
    /// Pixels that a device encodes in a second, smoothed; 0 before the first batch.
    rate: AtomicU64,
    /// Pixels that the replica gets through.
    pace: Mutex<Pace>,
    /// Until when there is room for those who were told to come back, if they all do.
    promised: Mutex<Instant>,
    /// Items that are all here and not answered.
    working: AtomicUsize,
    devices: usize,
    metrics: Arc<Metrics>,
}

impl Queue {
    /// A queue with room for so many output pixels and payload bytes.
    pub(crate) fn new(pixels: u32, bytes: usize, metrics: Arc<Metrics>) -> Self {
        let bytes_limit = units(bytes);
        metrics.queue_limit_pixels.set(f64::from(pixels));
        Self {
            pixels: Arc::new(Semaphore::new(pixels as usize)),
            pixels_limit: pixels,
            bytes: Arc::new(Semaphore::new(bytes_limit as usize)),
            bytes_limit,
            rate: AtomicU64::new(0),
            pace: Mutex::default(),
            promised: Mutex::new(Instant::now()),
            working: AtomicUsize::new(0),
            devices: 1,
            metrics,
        }
    }

    /// In front of so many devices.
    pub(crate) const fn before(mut self, devices: usize) -> Self {
        self.devices = devices;
        self
    }

    /// The most output pixels that one call can ask for.
    pub(crate) const fn pixels_limit(&self) -> u32 {
        self.pixels_limit
    }

    /// Output pixels that are admitted and not yet answered.
    pub(crate) fn queued(&self) -> usize {
        self.pixels_limit as usize - self.pixels.available_permits()
    }

    /// Pixels that the device encodes in a second, smoothed; 0 before the first batch.
    pub(crate) fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// A place for so many output pixels, or the news that there is none now, or that the answer would
    /// come later than in `patience`. Never waits: being full is an answer, and the caller knows
    /// better where else to go.
    ///
    /// # Errors
    /// [`Refusal::Busy`], or [`Refusal::TooLarge`] for what can never fit.
    pub(crate) fn admit(&self, pixels: u64, patience: Duration) -> Result<Ticket, Refusal> {
        let wanted = u32::try_from(pixels)
            .ok()
            .filter(|wanted| *wanted <= self.pixels_limit)
            .ok_or_else(|| {
                let limit = self.pixels_limit;
                Refusal::TooLarge(format!(
                    "the call asks for {pixels} output pixels, but the queue of this replica \
                     holds {limit}: send fewer items"
                ))
            })?;
        self.in_time(pixels, patience)?;
        let permit = take(&self.pixels, wanted).ok_or_else(|| self.busy(wanted))?;
        self.show();
        Ok(Ticket {
            pixels: permit,
            _work: None,
        })
    }

    /// Whether a call of so many pixels would be answered in time. An empty replica takes any: then
    /// there is nobody whom it could cost.
    fn in_time(&self, pixels: u64, patience: Duration) -> Result<(), Refusal> {
        let ahead = self.queued() as u64;
        let Some(takes) = self.pace().takes(ahead + pixels).filter(|_| ahead > 0) else {
            return Ok(());
        };
        match takes.checked_sub(patience.saturating_mul(PATIENCE_TENTHS) / 10) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(excess) => Err(self.come_back(excess, pixels)),
        }
    }

    /// Counts an item as work until the guard is dropped.
    pub(crate) fn work(self: &Arc<Self>) -> Work {
        self.working.fetch_add(1, Ordering::AcqRel);
        Work(Arc::clone(self))
    }

    /// Room for a payload that has come.
    ///
    /// # Errors
    /// [`Refusal::Busy`], or [`Refusal::TooLarge`] for what can never fit.
    pub(crate) fn bytes(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let wanted = units(bytes);
        if wanted > self.bytes_limit {
            let limit = self.bytes_limit as usize * BYTES_UNIT;
            return Err(Refusal::TooLarge(format!(
                "a payload has {bytes} bytes, but the queue of this replica holds {limit}: send \
                 smaller files"
            )));
        }
        take(&self.bytes, wanted).ok_or_else(|| self.busy(0))
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Corrects a ticket taken on the caller's word to what its call turned out to be.
    ///
    /// # Errors
    /// As [`Queue::admit`], if more is needed and not there.
    pub(crate) fn settle(&self, ticket: &mut Ticket, pixels: u64) -> Result<(), Refusal> {
        let held = ticket.pixels.num_permits() as u64;
        if pixels > held {
            // Whether there is time was asked before.
            let more = self.admit(pixels - held, Duration::MAX)?;
            ticket.pixels.merge(more.pixels);
        } else {
            drop(ticket.pixels.split((held - pixels) as usize));
        }
        Ok(())
    }

    /// Learns the speed of a device, and that of the replica, from a batch that is done.
    pub(crate) fn measured(&self, pixels: u64, took: Duration) {
        let now = Instant::now();
        self.pace().done(pixels, took, self.devices, now);
        let rate = pixels as f64 / took.as_secs_f64().max(1e-6);
        let old = self.rate.load(Ordering::Relaxed) as f64;
        let new = if old == 0.0 {
            rate
        } else {
            old * 0.8 + rate * 0.2
        };
        self.rate.store(new as u64, Ordering::Relaxed);
        self.show();
    }

    /// Estimates when `wanted` more pixels will fit.
    fn busy(&self, wanted: u32) -> Refusal {
        let missing = (wanted as usize).saturating_sub(self.pixels.available_permits());
        let after = self.pace().takes(missing as u64).unwrap_or_default();
        self.come_back(after, u64::from(wanted))
    }

    /// Room is expected then, but everybody is told a time of his own: if all who are refused came
    /// back at once, all but one would be refused again.
    fn come_back(&self, after: Duration, pixels: u64) -> Refusal {
        let takes = self.pace().takes(pixels).unwrap_or_default();
        let now = Instant::now();
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let others = promised.saturating_duration_since(now);
        let retry_after = after.max(others).clamp(PUSHBACK[0], PUSHBACK[1]);
        *promised = now + retry_after + takes.min(PUSHBACK[1]);
        Refusal::Busy { retry_after }
    }

    /// Brings the gauge up to date.
    pub(crate) fn show(&self) {
        self.metrics.queued_pixels.set(self.queued() as f64);
    }
}

/// An item that is being worked on: all of it has come, and it is not answered yet.
#[derive(Debug)]
pub(crate) struct Work(Arc<Queue>);

impl Drop for Work {
    fn drop(&mut self) {
        if self.0.working.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.pace().idle();
        }
    }
}

/// A place in the queue, given back on drop.
#[derive(Debug)]
pub(crate) struct Ticket {
    pixels: OwnedSemaphorePermit,
    _work: Option<Work>,
}

impl Ticket {
    /// Cuts off the share of one item, so that its place is free as soon as that item is done.
    pub(crate) fn share(&mut self, pixels: u64) -> Self {
        // A share beyond what is left cannot happen after `settle`; it would come out empty.
        let count = (pixels as usize).min(self.pixels.num_permits());
        let pixels = self.pixels.split(count);
        Self {
            pixels: pixels.expect("count is at most what is held"),
            _work: None,
        }
    }

    /// From now on there is work to do for it.
    pub(crate) fn works(&mut self, work: Work) {
        self._work = Some(work);
    }
}

fn take(semaphore: &Arc<Semaphore>, count: u32) -> Option<OwnedSemaphorePermit> {
    Arc::clone(semaphore).try_acquire_many_owned(count).ok()
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(BYTES_UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(pixels: u32) -> Queue {
        Queue::new(pixels, 1 << 20, Arc::new(Metrics::new()))
    }

    #[test]
    fn a_place_comes_back_wherever_the_ticket_dies() {
        let queue = queue(100);
        let mut ticket = queue.admit(80, Duration::MAX).unwrap();
        assert!(matches!(
            queue.admit(30, Duration::MAX),
            Err(Refusal::Busy { .. })
        ));
        drop(ticket.share(50));
        let second = queue.admit(70, Duration::MAX).unwrap();
        drop((ticket, second));
        queue.admit(100, Duration::MAX).unwrap();
    }

    #[test]
    fn a_wrong_claim_is_settled_both_ways() {
        let queue = queue(100);
        let mut low = queue.admit(10, Duration::MAX).unwrap();
        queue.settle(&mut low, 60).unwrap();
        assert!(matches!(
            queue.admit(41, Duration::MAX),
            Err(Refusal::Busy { .. })
        ));
        queue.settle(&mut low, 20).unwrap();
        queue.admit(80, Duration::MAX).unwrap();
    }

    #[test]
    fn what_never_fits_is_not_busy() {
        let queue = queue(100);
        assert!(matches!(
            queue.admit(101, Duration::MAX),
            Err(Refusal::TooLarge(_))
        ));
        assert!(matches!(
            queue.admit(u64::MAX, Duration::MAX),
            Err(Refusal::TooLarge(_))
        ));
        assert!(matches!(queue.bytes(2 << 20), Err(Refusal::TooLarge(_))));
        let held = queue.bytes(1 << 20).unwrap();
        assert!(matches!(queue.bytes(1), Err(Refusal::Busy { .. })));
        drop(held);
        drop(queue.bytes(1).unwrap());
    }

    #[test]
    fn pushback_follows_the_measured_rate() {
        let queue = queue(1000);
        queue.measured(1000, Duration::from_secs(1));
        let _held = queue.admit(1000, Duration::MAX).unwrap();
        let Err(Refusal::Busy { retry_after }) = queue.admit(500, Duration::MAX) else {
            panic!("admitted past the bound");
        };
        assert_eq!(retry_after, Duration::from_millis(500));
    }

    #[test]
    fn devices_empty_the_queue_together() {
        let queue = queue(1000).before(4);
        queue.measured(1000, Duration::from_secs(1));
        let _held = queue.admit(1000, Duration::MAX).unwrap();
        let Err(Refusal::Busy { retry_after }) = queue.admit(400, Duration::MAX) else {
            panic!("admitted past the bound");
        };
        assert_eq!(retry_after, Duration::from_millis(100));
    }

    #[test]
    fn nobody_is_let_in_who_would_be_answered_too_late() {
        let queue = queue(10_000);
        let second = Duration::from_secs(1);
        // Nothing is known, then nobody is before it.
        drop(queue.admit(5000, second).unwrap());
        queue.measured(1000, second);
        let held = queue.admit(5000, second).unwrap();
        // 6 s of work, and 8 tenths of 7 s.
        let Err(Refusal::Busy { retry_after }) = queue.admit(1000, 7 * second) else {
            panic!("admitted in vain");
        };
        assert_eq!(retry_after, Duration::from_millis(400));
        drop(queue.admit(1000, 8 * second).unwrap());
        drop(held);
        queue.admit(9000, second).unwrap();
    }

    #[test]
    fn everybody_is_told_a_time_of_his_own() {
        let queue = queue(1000);
        queue.measured(1000, Duration::from_secs(1));
        let _held = queue.admit(1000, Duration::MAX).unwrap();
        let start = Instant::now();
        for nth in 1..=20_u32 {
            let Err(Refusal::Busy { retry_after }) = queue.admit(500, Duration::MAX) else {
                panic!("admitted past the bound");
            };
            let expected = (nth * Duration::from_millis(500)).min(PUSHBACK[1]);
            let when = start.elapsed() + retry_after;
            assert!(when >= expected, "{nth}: {when:?}");
        }
    }
}
