//! What one step came to.

use std::{collections::BTreeMap, time::Duration};

use super::{
    knee::Point,
    tally::{Counts, Second, State, milliseconds},
    usage::Usage,
};

/// The percentiles of latency that are shown.
pub(super) const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];

/// What kind of step it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A short closed loop that looks for the capacity.
    Probe,
    /// A closed loop.
    Closed,
    /// An open loop with this offered load, in images a second.
    Open(f64),
}

/// What one step came to.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) items: usize,
    /// Of the window, as far as it went.
    pub(super) time: Duration,
    pub(super) counts: Counts,
    /// Milliseconds at each of [`QUANTILES`]; `None` where nothing was answered.
    pub(super) latency: Option<[f64; 5]>,
    /// How late calls began, in milliseconds: 99 of 100 sooner.
    pub(super) lag: f64,
    /// The median of what refused calls were told to wait, in milliseconds.
    pub(super) pushback: Option<f64>,
    pub(super) most_in_flight: u64,
    pub(super) complaints: BTreeMap<String, u64>,
    pub(super) seconds: Vec<Second>,
    /// CPU of this process over the whole step, in cores.
    pub(super) cores: f64,
    /// Of the replica when the step began.
    pub(super) before: Option<Usage>,
}

impl Outcome {
    /// Images a second that were to be served.
    pub(super) fn offered(&self) -> f64 {
        self.rate(self.counts.offered)
    }

    /// Images a second that were sent.
    pub(super) fn sent(&self) -> f64 {
        self.rate(self.counts.sent())
    }

    /// Images a second that were answered whole and in time.
    pub(super) fn goodput(&self) -> f64 {
        self.counts.images as f64 / self.seconds()
    }

    /// Seconds of the window; never 0.
    pub(super) fn seconds(&self) -> f64 {
        self.time.as_secs_f64().max(1e-3)
    }

    /// For the search of the knee. The offered load is the one that arrived, not the one that was
    /// wanted: in a short step they may differ.
    pub(super) fn point(&self) -> Point {
        Point {
            offered: self.offered(),
            goodput: self.goodput(),
            items: self.items as f64,
            seconds: self.seconds(),
            p99: self.latency.map(|latency| latency[2]),
        }
    }

    /// Of the replica, second by second.
    pub(super) fn replica(&self) -> impl Iterator<Item = Usage> + '_ {
        let during = self.seconds.iter().filter_map(|second| second.replica);
        self.before.into_iter().chain(during)
    }

    fn rate(&self, calls: u64) -> f64 {
        calls as f64 * self.items as f64 / self.seconds()
    }
}

/// Percentiles of a state.
pub(super) fn latency(state: &State) -> Option<[f64; 5]> {
    let at = |quantile| milliseconds(&state.latency, quantile);
    let all = QUANTILES.map(at);
    all.iter()
        .all(Option::is_some)
        .then(|| all.map(Option::unwrap_or_default))
}
