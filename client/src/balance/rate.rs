//! How fast a replica is, learned from what it answers.

use super::types::Time;

/// Output pixels a second of a replica about which nothing is known, nor about any other: one of the
/// slower GPUs. Only the first calls are placed by it.
pub(super) const UNKNOWN: f64 = 5e6;
/// What is older than so much work counts for little, ...
const MEMORY_SECONDS: f64 = 10.0;
/// ... but so many answers always count, however long each takes.
const MEMORY_ANSWERS: f64 = 12.0;
/// An answer that took longer than so many times what was expected of all that the replica had says
/// that it was stopped, not how fast it is: it counts for no more.
const LONGEST: f64 = 3.0;

/// Pixels a second while busy. A ratio of sums: an answer counts in proportion to its cost, several
/// that come together count as one, and noise that multiplies averages out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    pixels: f64,
    seconds: f64,
    /// What the replica says of itself: believed until it has answered.
    said: f32,
    answers: u32,
}

impl Rate {
    /// `busy`: seconds that the replica worked since the last answer; `expected`: seconds that all
    /// it had should have taken.
    pub(super) fn answered(&mut self, pixels: u64, busy: f64, expected: f64) {
        let busy = if self.answers == 0 {
            busy
        } else {
            busy.min(LONGEST * expected)
        };
        let kept = (-busy / MEMORY_SECONDS)
            .exp()
            .max(1.0 - 1.0 / MEMORY_ANSWERS);
        self.pixels = self.pixels * kept + pixels as f64;
        self.seconds = self.seconds * kept + busy;
        self.answers = self.answers.saturating_add(1);
    }

    /// What the replica says of itself.
    pub(super) const fn says(&mut self, pixels_per_second: f64) {
        self.said = pixels_per_second as f32;
    }

    /// What it said alone.
    pub(super) fn said(&self) -> Self {
        Self {
            said: self.said,
            ..Self::default()
        }
    }

    /// Answers so far.
    pub(super) const fn answers(&self) -> u32 {
        self.answers
    }

    /// What was measured; 0 before the first answer.
    pub(super) fn measured(&self) -> f64 {
        // Answers in no time at all: as with a clock that stands still.
        if self.answers == 0 || self.seconds <= 0.0 {
            return 0.0;
        }
        self.pixels / self.seconds
    }

    /// The best guess, never 0: what was measured, what the replica says, or what others do.
    pub(super) fn guess(&self, others: f64) -> f64 {
        let said = f64::from(self.said);
        let known = [self.measured(), said, others];
        let known = known.into_iter().find(|&rate| rate > 0.0);
        known.unwrap_or(UNKNOWN).clamp(MIN, MAX)
    }
}

/// Slowest and fastest that is told apart, in pixels a second.
pub(super) const MIN: f64 = 1024.0;
pub(super) const MAX: f64 = 1e12;

/// Something per second, smoothed over [`Lately::MEMORY`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lately {
    sum: f64,
    at: Time,
}

impl Lately {
    const MEMORY: f64 = 10.0;

    pub(super) fn add(&mut self, now: Time, amount: f64) {
        self.sum = self.sum(now) + amount;
        self.at = now;
    }

    /// Per second.
    pub(super) fn rate(&self, now: Time) -> f64 {
        self.sum(now) / Self::MEMORY
    }

    fn sum(&self, now: Time) -> f64 {
        let age = now.saturating_sub(self.at).as_secs_f64();
        self.sum * (-age / Self::MEMORY).exp()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_is_learned_through_noise_and_forgotten() {
        let mut noise = 1u64;
        let mut rate = Rate::default();
        assert_eq!(rate.guess(0.0), UNKNOWN);
        rate.says(2e6);
        assert_eq!(rate.guess(0.0), 2e6);
        for speed in [1e6, 4e6] {
            for _ in 0..2000 {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                // 0.5 to 1.5 times what it should be.
                let factor = 0.5 + (noise >> 40) as f64 / (1u64 << 24) as f64;
                rate.answered(65_536, 65_536.0 / speed * factor, 65_536.0 / speed);
            }
            let error = rate.measured() / speed - 1.0;
            assert!(error.abs() < 0.1, "{error}");
        }
    }

    #[test]
    fn a_stop_is_not_slowness() {
        let mut rate = Rate::default();
        for _ in 0..100 {
            rate.answered(1_000_000, 1.0, 1.0);
        }
        rate.answered(1_000_000, 60.0, 1.0);
        assert!(rate.measured() > 0.8e6, "{}", rate.measured());
    }

    #[test]
    fn answers_that_come_together_count_once() {
        let mut rate = Rate::default();
        for _ in 0..50 {
            rate.answered(1_000_000, 4.0, 4.0);
            for left in [3.0, 2.0, 1.0] {
                rate.answered(1_000_000, 0.0, left);
            }
        }
        assert!(
            (rate.measured() / 1e6 - 1.0).abs() < 0.2,
            "{}",
            rate.measured()
        );
    }

    #[test]
    fn lately_is_reached_and_forgotten() {
        let mut work = Lately::default();
        for tick in 0..1000 {
            work.add(Duration::from_millis(100 * tick), 0.5);
        }
        let end = Duration::from_secs(100);
        assert!((work.rate(end) - 5.0).abs() < 0.1, "{}", work.rate(end));
        assert!(work.rate(end * 2) < 0.01);
    }
}
