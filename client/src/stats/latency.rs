//! Distributions of times, in little memory.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;

/// Shortest and longest time that is told apart, in microseconds: up to an hour.
const RANGE_MICROS: (u64, u64) = (10, 3_600_000_000);
/// Significant digits: within a hundredth. A histogram has some 50 KiB.
const DIGITS: u8 = 2;

/// What there is to know of a distribution of times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Half of them took no longer, to a hundredth.
    pub p50: Duration,
    /// 99 in a hundred took no longer, to a hundredth.
    pub p99: Duration,
    /// Sum of all.
    pub total: Duration,
}

/// Collects times.
#[derive(Default)]
pub(super) struct Times(Mutex<Option<(Histogram<u64>, Duration)>>);

impl Times {
    pub(super) fn add(&self, time: Duration) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            let (least, most) = RANGE_MICROS;
            *guard = Histogram::new_with_bounds(least, most, DIGITS)
                .ok()
                .map(|empty| (empty, Duration::ZERO));
        }
        if let Some((histogram, total)) = &mut *guard {
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            histogram.saturating_record(micros);
            *total += time;
        }
    }

    pub(super) fn read(&self) -> Latency {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((histogram, total)) = &*guard else {
            return Latency::default();
        };
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        Latency {
            count: histogram.len(),
            p50: at(0.5),
            p99: at(0.99),
            total: *total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let times = Times::default();
        assert_eq!(times.read(), Latency::default());
        for millis in 1..=100 {
            times.add(Duration::from_millis(millis));
        }
        times.add(Duration::MAX / 2);
        times.add(Duration::ZERO);
        let read = times.read();
        assert_eq!(read.count, 102);
        let near =
            |seen: Duration, millis: f64| (seen.as_secs_f64() * 1e3 / millis - 1.0).abs() < 0.02;
        assert!(near(read.p50, 50.0), "{read:?}");
        assert!(near(read.p99, 100.0), "{read:?}");
    }
}
