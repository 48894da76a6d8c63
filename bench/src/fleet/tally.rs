//! What is counted in one run.

use std::time::Duration;

use hdrhistogram::Histogram;
use preheat_client::balance::Time;

/// Digits of a completion time that are kept, and the longest in microseconds: a day.
const DIGITS: u8 = 3;
const LONGEST: u64 = 86_400_000_000;

/// What became of the requests of one run. All but `conserved` is of the measured time.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) window: [Time; 2],
    /// Completion in microseconds, from submission to answer, of requests submitted in the window.
    pub(super) completion: Histogram<u64>,
    pub(super) submitted: u64,
    /// Of those: answered after they were needed, or never.
    pub(super) late: u64,
    pub(super) failed: u64,
    /// Output pixels that were answered in the window.
    pub(super) pixels: f64,
    pub(super) sends: u64,
    pub(super) hedges: u64,
    pub(super) retries: u64,
    /// Times that a request found the queue full.
    pub(super) full: u64,
    pub(super) all: Conserved,
}

/// Every request of the run: each must end once, and only once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conserved {
    pub(super) submitted: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    /// Answered, failed or sent after its end; or cancelled where it was not.
    pub(super) wrong: u64,
}

impl Tally {
    pub(super) fn new(window: [Time; 2]) -> Self {
        let completion =
            Histogram::new_with_max(LONGEST, DIGITS).expect("these bounds are allowed");
        Self {
            window,
            completion,
            submitted: 0,
            late: 0,
            failed: 0,
            pixels: 0.0,
            sends: 0,
            hedges: 0,
            retries: 0,
            full: 0,
            all: Conserved::default(),
        }
    }

    pub(super) fn measures(&self, at: Time) -> bool {
        (self.window[0]..self.window[1]).contains(&at)
    }

    /// A request of the window was answered after so long.
    pub(super) fn completed(&mut self, after: Duration) {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.completion.saturating_record(micros.max(1));
    }

    /// Milliseconds within which this share of the requests was answered; those that never were
    /// took for ever.
    pub(super) fn milliseconds(&self, quantile: f64) -> f64 {
        let wanted = (quantile * self.submitted as f64).ceil() as u64;
        if self.completion.is_empty() || wanted > self.completion.len() {
            return f64::INFINITY;
        }
        let share = wanted as f64 / self.completion.len() as f64;
        self.completion.value_at_quantile(share) as f64 / 1e3
    }

    pub(super) fn late_share(&self) -> f64 {
        self.late as f64 / self.submitted.max(1) as f64
    }
}
