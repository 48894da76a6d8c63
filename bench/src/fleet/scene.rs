//! What is simulated: replicas, what befalls them, and what is asked of them.

use std::time::Duration;

use super::typed::Wave;

/// One scenario: the same for every policy.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) name: &'static str,
    /// Speeds in units of the first column of the tables, and output pixels a second of one unit.
    pub(super) speeds: Vec<f64>,
    pub(super) unit: f64,
    pub(super) replicas: usize,
    pub(super) trouble: Trouble,
    /// Sigma of the logarithm of what a request takes beyond its pixels; the mean is 1.
    pub(super) noise: f64,
    /// One way.
    pub(super) travel: Duration,
    /// Output pixels and weights.
    pub(super) sizes: Vec<(u64, u32)>,
    pub(super) demand: Demand,
    pub(super) trainers: usize,
    pub(super) warm_up: Duration,
    pub(super) seconds: Duration,
    pub(super) seed: u64,
}

/// What befalls replicas.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// At any time this share of the replicas stands still, ...
    pub(super) stall_share: f64,
    /// ... each for so many seconds on average.
    pub(super) stall_seconds: f64,
    /// Seconds between two ends of one replica, on average.
    pub(super) crash_every: Option<f64>,
    pub(super) restart: Duration,
    pub(super) waves: Vec<Wave>,
    /// This share reports ten times its speed and an empty queue.
    pub(super) lying: f64,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Demand {
    /// This share of the fluid capacity, at random times (or in step), needed `slack` later.
    Open {
        load: f64,
        regular: bool,
        slack: Duration,
    },
    /// So many requests are always asked for and not answered.
    Closed { waiting: usize, slack: Duration },
    /// Loaders that want this share of the fluid capacity in equal parts, all but the last from the
    /// start, the last when the warm-up is over.
    Loaders {
        load: f64,
        step: Duration,
        look_ahead: u64,
    },
}

impl Scene {
    /// Which speed a replica has.
    pub(super) const fn class(&self, replica: usize) -> usize {
        replica % self.speeds.len()
    }

    /// Output pixels a second of a replica.
    pub(super) fn rate(&self, replica: usize) -> f64 {
        self.speeds[self.class(replica)] * self.unit
    }

    /// Output pixels a second of all.
    pub(super) fn capacity(&self) -> f64 {
        (0..self.replicas).map(|replica| self.rate(replica)).sum()
    }

    /// Output pixels of a request, on average.
    pub(super) fn mean_pixels(&self) -> f64 {
        let weights: f64 = self
            .sizes
            .iter()
            .map(|&(_, weight)| f64::from(weight))
            .sum();
        let pixels = |&(pixels, weight): &(u64, u32)| pixels as f64 * f64::from(weight);
        self.sizes.iter().map(pixels).sum::<f64>() / weights
    }

    /// The fluid optimum: the whole fleet as one replica that nothing befalls.
    pub(super) fn as_one(&self) -> Self {
        Self {
            speeds: vec![self.capacity() / self.unit],
            replicas: 1,
            trouble: Trouble {
                stall_share: 0.0,
                crash_every: None,
                waves: Vec::new(),
                lying: 0.0,
                ..self.trouble
            },
            ..self.clone()
        }
    }

    /// When measuring ends.
    pub(super) fn end(&self) -> Duration {
        self.warm_up + self.seconds
    }

    /// When trainers stop asking: a while after measuring ends, so that the last that are measured
    /// are answered by a fleet that is as busy as before.
    pub(super) fn last_call(&self) -> Duration {
        self.end() + self.warm_up
    }

    /// A source of chance of its own for one thing of one kind: no policy can shift what others draw.
    pub(super) fn rng(&self, kind: Chance, number: usize) -> fastrand::Rng {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let seed = rng.u64(..) ^ (kind as u64) << 56 ^ number as u64;
        let mut mixed = fastrand::Rng::with_seed(seed);
        fastrand::Rng::with_seed(mixed.u64(..))
    }
}

/// What chance is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chance {
    Arrivals = 1,
    Jobs = 2,
    Stalls = 3,
    Crashes = 4,
    Waves = 5,
    Lies = 6,
    Policy = 7,
}

/// Seconds until something that happens at random every so many seconds.
pub(super) fn exponential(rng: &mut fastrand::Rng, mean: f64) -> Duration {
    Duration::from_secs_f64(-mean * (1.0 - rng.f64()).ln())
}

/// A factor of mean 1 whose logarithm is normal with this sigma.
pub(super) fn log_normal(rng: &mut fastrand::Rng, sigma: f64) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * rng.f64()).cos();
    (sigma * normal - sigma * sigma / 2.0).exp()
}
