//! How many second attempts there may be: a share of the first ones, so that they cannot add to an
//! overload, and a few a second at any rate.

use super::types::Time;

/// Earned by every request.
const SHARE: f64 = 0.1;
/// Earned every second.
const PER_SECOND: f64 = 2.0;
/// Saved up at most: what one fast replica may hold when it stops, and some.
const MOST: f64 = 128.0;

/// A purse of second attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    saved: f64,
    at: Time,
}

impl Budget {
    pub(super) const fn new(now: Time) -> Self {
        Self {
            saved: MOST / 8.0,
            at: now,
        }
    }

    /// A request has come.
    pub(super) fn earn(&mut self) {
        self.saved = (self.saved + SHARE).min(MOST);
    }

    /// Whether there may be a second attempt now.
    pub(super) fn spend(&mut self, now: Time) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        self.saved = (self.saved + passed * PER_SECOND).min(MOST);
        let may = self.saved >= 1.0;
        self.saved -= f64::from(u8::from(may));
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_tenth_and_some() {
        let mut budget = Budget::new(Time::ZERO);
        while budget.spend(Time::ZERO) {}
        for _ in 0..1000 {
            budget.earn();
        }
        let now = Duration::from_secs(1);
        let spent = (0..1000).filter(|_| budget.spend(now)).count();
        assert!((101..=102).contains(&spent), "{spent}");
        assert!(budget.spend(Duration::from_secs(2)));
    }
}
