//! When calls begin in an open loop.

use std::time::Duration;

/// Arrivals of a Poisson process: gaps are exponential and know nothing of each other, as with many
/// callers who do not know of each other. The same seed gives the same arrivals.
#[derive(Debug)]
pub(super) struct Arrivals {
    gaps: fastrand::Rng,
    /// Calls a second.
    rate: f64,
    /// Seconds since the beginning.
    at: f64,
}

impl Arrivals {
    /// `rate` calls a second, above 0.
    pub(super) fn new(rate: f64, seed: u64) -> Self {
        Self {
            gaps: fastrand::Rng::with_seed(seed),
            rate,
            at: 0.0,
        }
    }
}

impl Iterator for Arrivals {
    /// Since the beginning.
    type Item = Duration;

    /// `None` at the end of time only.
    fn next(&mut self) -> Option<Duration> {
        // In (0, 1]: the logarithm of 0 is no gap.
        let uniform = 1.0 - self.gaps.f64();
        self.at -= uniform.ln() / self.rate;
        Duration::try_from_secs_f64(self.at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(seed: u64) -> Vec<f64> {
        let within = Duration::from_secs(1000);
        Arrivals::new(50.0, seed)
            .take_while(|at| *at < within)
            .map(|at| at.as_secs_f64())
            .collect()
    }

    #[test]
    fn as_many_as_the_rate_says() {
        // 50 000 expected, with a standard deviation of 224.
        let count = arrivals(1).len() as f64;
        assert!((count - 50_000.0).abs() < 5.0 * 224.0, "{count}");
    }

    #[test]
    fn gaps_are_exponential() {
        let arrivals = arrivals(2);
        let gaps: Vec<f64> = arrivals.windows(2).map(|two| two[1] - two[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let square = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>();
        let deviation = (square / gaps.len() as f64).sqrt();
        // For an exponential distribution they are the same; 50 000 gaps give either within 2 %.
        assert!((deviation / mean - 1.0).abs() < 0.04, "{deviation} {mean}");
        assert!(gaps.iter().all(|gap| *gap >= 0.0));
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(arrivals(3), arrivals(3));
        assert_ne!(arrivals(3), arrivals(4));
    }
}
