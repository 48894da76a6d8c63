//! How fast the replica gets through what is inside, whatever holds it up: devices, decoding or the
//! network. So it can tell, before it admits a call, whether that will be answered in time.

use std::time::{Duration, Instant};

/// How long work is counted before it says something: longer than the pauses between threads.
const WINDOW: Duration = Duration::from_millis(200);

/// What a new count weighs against all before it: a reload, or a neighbour that takes the cores, is
/// noticed within seconds.
const WEIGHT: f64 = 0.3;

/// Pixels a second, counted while there is work.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// 0 before the first batch.
    rate: f64,
    /// Since when there was work all the time, and the pixels done since then.
    busy: Option<(Instant, u64)>,
}

impl Pace {
    /// A batch is done, for which its device took so long.
    pub(super) fn done(&mut self, pixels: u64, took: Duration, devices: usize, now: Instant) {
        if self.rate == 0.0 {
            self.rate = pixels as f64 / took.as_secs_f64().max(1e-6) * devices as f64;
        }
        let Some((since, before)) = self.busy else {
            self.busy = Some((now, 0));
            return;
        };
        let (elapsed, all) = (now.saturating_duration_since(since), before + pixels);
        if elapsed < WINDOW {
            self.busy = Some((since, all));
            return;
        }
        let seen = all as f64 / elapsed.as_secs_f64();
        self.rate += WEIGHT * (seen - self.rate);
        self.busy = Some((now, 0));
    }

    /// Nothing is left inside: what is being counted would say how little there was to do.
    pub(super) fn idle(&mut self) {
        self.busy = None;
    }

    /// How long so many pixels take; `None` before the first batch.
    pub(super) fn takes(&self, pixels: u64) -> Option<Duration> {
        let seconds = pixels as f64 / self.rate;
        (self.rate > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_batch_is_a_guess() {
        let mut pace = Pace::default();
        assert_eq!(pace.takes(1), None);
        pace.done(1000, SECOND, 2, Instant::now());
        assert_eq!(pace.takes(4000), Some(2 * SECOND));
    }

    #[test]
    fn it_is_that_of_the_slowest_stage() {
        // Batches that a device does in a tenth of a second, but that come once a second.
        let (mut pace, start) = (Pace::default(), Instant::now());
        for second in 0..30 {
            pace.done(1000, SECOND / 10, 1, start + second * SECOND);
        }
        let takes = pace.takes(1000).unwrap().as_secs_f64();
        assert!((takes - 1.0).abs() < 0.01, "{takes}");
    }

    #[test]
    fn pauses_without_work_do_not_count() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for second in 0..30 {
            pace.done(1000, SECOND / 10, 1, start + second * SECOND);
            pace.idle();
        }
        assert_eq!(pace.takes(1000), Some(SECOND / 10));
    }
}
