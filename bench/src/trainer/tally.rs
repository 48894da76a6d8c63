//! Figures of a run: pure sums over its steps.

use std::time::Duration;

use super::log::{Beat, Log};

/// A wait longer than this part of a step is one that the trainer feels; below it are the price of
/// taking a batch and the noise of the machine.
const FELT: f64 = 0.1;
/// The window is as full as before when it holds this part of what it held.
const FULL: f64 = 0.9;

/// How one trainer went, in the measured time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pace {
    pub(super) steps: usize,
    pub(super) seconds: f64,
    pub(super) images: u64,
    /// Share of the time in which it stood still for its data.
    pub(super) stall: f64,
    /// How long it did in the warm-up, while the window was being filled.
    pub(super) stalled_before: Duration,
    /// Of the waits of all ranks for a batch: the median, the 99th percentile, the longest.
    pub(super) waits: [Duration; 3],
    /// Complete batches when steps began, on average.
    pub(super) ready: f64,
}

impl Pace {
    pub(super) fn of(log: &Log) -> Self {
        let beats = log.measured();
        let [from, to] = log.span();
        let seconds = to.saturating_sub(from).as_secs_f64();
        let stalled: Duration = beats.iter().map(Beat::stalled).sum();
        let mut waits: Vec<Duration> = beats.iter().flat_map(|beat| beat.waits.clone()).collect();
        waits.sort_unstable();
        let ready: u64 = beats.iter().map(|beat| beat.ready).sum();
        Self {
            steps: beats.len(),
            seconds,
            images: beats.iter().map(|beat| beat.images).sum(),
            stall: ratio(stalled.as_secs_f64(), seconds),
            stalled_before: log.before().iter().map(Beat::stalled).sum(),
            waits: [0.5, 0.99, 1.0].map(|share| quantile(&waits, share)),
            ready: ratio(ready as f64, beats.len() as f64),
        }
    }

    pub(super) fn steps_per_second(&self) -> f64 {
        ratio(self.steps as f64, self.seconds)
    }

    pub(super) fn images_per_second(&self) -> f64 {
        ratio(self.images as f64, self.seconds)
    }
}

/// Images a second that a trainer was sent, taken or not: what comes out of order is delivered in
/// bursts, and says little over a short time.
pub(super) fn encoded_per_second(log: &Log) -> f64 {
    let ([first, between @ ..], [.., last]) = (log.measured(), log.measured()) else {
        return 0.0;
    };
    let taken: u64 = first.images + between.iter().map(|beat| beat.images).sum::<u64>();
    // The last one was in stock when its step began, or is part of what came after.
    let taken = taken.saturating_sub(last.images);
    let came = (taken + last.stock).saturating_sub(first.stock);
    let seconds = last.stall()[0].saturating_sub(first.stall()[0]);
    ratio(came as f64, seconds.as_secs_f64())
}

/// How a trainer came through a stop of the whole fleet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ride {
    /// Complete batches when it began, and the steps' time that they were good for.
    pub(super) ready: u64,
    pub(super) good_for: Duration,
    /// Until the trainer felt it; all of the stop where it never did.
    pub(super) ridden: Duration,
    /// How long it stood still because of it.
    pub(super) stalled: Duration,
    /// From the end of the stop to the first batch taken after it was felt; zero if it never was.
    pub(super) first: Duration,
    /// From the end of the stop until the window was as full as before; `None` if it never was.
    pub(super) full: Option<Duration>,
}

impl Ride {
    /// `None` where the trainer had no step before the stop or none after it.
    pub(super) fn of(log: &Log, [from, to]: [Duration; 2]) -> Option<Self> {
        let beats = log.measured();
        let behind = beats.partition_point(|beat| beat.at <= from);
        let before = &beats[..behind];
        let ready = before.last()?.ready;
        let usual = typical_step(before)?;
        beats.last().filter(|beat| beat.at > to)?;
        // From the stop on, until the window is full again: what waits there are has to do with it.
        let full = beats
            .iter()
            .find(|beat| beat.stall()[1] > to && beat.ready as f64 >= FULL * ready as f64);
        let end = full.map_or(Duration::MAX, |beat| beat.at);
        let felt: Vec<&Beat> = beats[behind..]
            .iter()
            .filter(|beat| beat.at <= end && beat.stalled() > usual.mul_f64(FELT))
            .collect();
        let ridden = felt
            .first()
            .map_or(to - from, |beat| beat.stall()[0].saturating_sub(from));
        let first = felt.iter().find(|beat| beat.stall()[1] > to);
        Some(Self {
            ready,
            good_for: usual.saturating_mul(u32::try_from(ready).unwrap_or(u32::MAX)),
            ridden,
            stalled: felt.iter().map(|beat| beat.stalled()).sum(),
            first: first.map_or(Duration::ZERO, |beat| beat.stall()[1] - to),
            full: full.map(|beat| beat.at.saturating_sub(to)),
        })
    }
}

/// The median time from step to step.
fn typical_step(beats: &[Beat]) -> Option<Duration> {
    let mut steps: Vec<Duration> = beats.windows(2).map(|two| two[1].at - two[0].at).collect();
    steps.sort_unstable();
    (!steps.is_empty()).then(|| quantile(&steps, 0.5))
}

/// The smallest of sorted values that so many are at most; zero of none.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let at = (share * sorted.len() as f64).ceil() as usize;
    let at = at.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or_default()
}

pub(super) fn ratio(of: f64, to: f64) -> f64 {
    if to > 0.0 { of / to } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::{log::RankLog, protocol::Step};

    const MS: Duration = Duration::from_millis(1);

    /// Steps of 100 ms, each after a wait of its own and with so many batches ready.
    fn log(steps: &[(u32, u64)], warm_up: Duration) -> Log {
        let mut log = Log {
            ranks: vec![RankLog::default(); 2],
            ..Log::default()
        };
        let mut at = Duration::ZERO;
        for (number, &(wait, ready)) in (1_u32..).zip(steps) {
            at += 100 * MS + wait * MS;
            let step = |waited: Duration| Step {
                waited,
                computed: 100 * MS,
                cpu: number * MS,
                ids: vec![0; 4],
                ready,
                ..Step::default()
            };
            let both = [step(wait * MS), step(Duration::ZERO)];
            log.beat(Beat::new(at, &both), &both, warm_up);
        }
        log
    }

    #[test]
    fn a_stall_is_the_wait_of_the_slowest_rank() {
        let log = log(&[(900, 0), (0, 1), (100, 2), (0, 3), (0, 2)], 500 * MS);
        let pace = Pace::of(&log);
        // The warm-up ends with the first step.
        assert_eq!((pace.steps, pace.images), (4, 32));
        assert!((pace.seconds - 0.5).abs() < 1e-9, "{pace:?}");
        assert!((pace.stall - 0.2).abs() < 1e-9, "{pace:?}");
        assert_eq!(pace.stalled_before, 900 * MS);
        assert_eq!(pace.waits, [Duration::ZERO, 100 * MS, 100 * MS]);
        assert_eq!(pace.ready, 2.0);
        assert!((pace.images_per_second() - 64.0).abs() < 1e-6);
        // 16 were taken, and 8 more are ready.
        let each = log.ranks[0].cpu_per_image().unwrap();
        assert!(each.abs_diff(4 * MS / 24) <= Duration::from_nanos(1));
    }

    #[test]
    fn what_is_in_stock_was_encoded_too() {
        // Steps of 100 ms take 8 images each; the stock of two ranks grows by a batch a step.
        let steps: Vec<(u32, u64)> = (0..11).map(|ready| (0, ready)).collect();
        let growing = encoded_per_second(&log(&steps, Duration::ZERO));
        assert!((growing - 160.0).abs() < 1e-6, "{growing}");
        let steady = encoded_per_second(&log(&[(0, 7); 11], Duration::ZERO));
        assert!((steady - 80.0).abs() < 1e-6, "{steady}");
        assert_eq!(encoded_per_second(&log(&[(0, 1)], Duration::ZERO)), 0.0);
    }

    #[test]
    fn nothing_measured_is_nothing() {
        let pace = Pace::of(&log(&[(1, 1)], 10_000 * MS));
        let stalled_before = MS;
        assert_eq!(
            pace,
            Pace {
                stalled_before,
                ..Pace::default()
            }
        );
    }

    #[test]
    fn a_ride_through_a_stop() {
        // The stop from 1.05 s to 2.05 s; three batches are held when it begins.
        let mut steps = vec![(0, 3); 11];
        steps.extend([
            (0, 2),
            (0, 1),
            (950, 0),
            (50, 0),
            (0, 1),
            (0, 2),
            (0, 3),
            (0, 3),
        ]);
        let log = log(&steps, Duration::ZERO);
        let ride = Ride::of(&log, [1050 * MS, 2050 * MS]).unwrap();
        assert_eq!((ride.ready, ride.good_for), (3, 300 * MS));
        assert_eq!(ride.ridden, 250 * MS, "{ride:?}");
        assert_eq!(ride.stalled, 1000 * MS);
        assert_eq!(ride.first, 200 * MS);
        assert_eq!(ride.full, Some(750 * MS));
    }

    #[test]
    fn a_stop_that_is_not_felt() {
        let log = log(&[(0, 9); 30], Duration::ZERO);
        let ride = Ride::of(&log, [1050 * MS, 2050 * MS]).unwrap();
        assert_eq!(ride.ridden, 1000 * MS);
        assert_eq!((ride.stalled, ride.first), (Duration::ZERO, Duration::ZERO));
        assert!(Ride::of(&log, [1050 * MS, 9000 * MS]).is_none(), "no end");
        assert!(
            Ride::of(&log, [Duration::ZERO, 50 * MS]).is_none(),
            "no beginning"
        );
    }
}
