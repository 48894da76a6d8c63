//! What is counted while a step runs.
//!
//! Calls belong to the measured window by the moment at which they were to begin, so that an overload
//! cannot hide in calls that end after it; images and bytes belong to it by the moment at which they
//! came, so that what is answered after it does not count as throughput.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::{
    judge::{Answer, Verdict},
    usage::Usage,
};

/// The longest latency that is told from longer ones, in microseconds: an hour.
const LONGEST_MICROS: u64 = 3_600_000_000;
/// Significant digits of percentiles.
const DIGITS: u8 = 3;
/// Different complaints that are kept in words; each is counted.
const MAX_COMPLAINTS: usize = 8;
/// An answer that comes later than this share of its deadline is late: clocks of both sides and the
/// way between them have a part in it.
const LATE: f64 = 1.1;

/// The part of a step that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// After the warm-up.
    pub(super) begin: Instant,
    /// When no call begins any more.
    pub(super) end: Instant,
}

impl Window {
    fn has(&self, at: Instant) -> bool {
        (self.begin..self.end).contains(&at)
    }

    /// How much of it is over.
    pub(super) fn over(&self, now: Instant) -> Duration {
        now.min(self.end).saturating_duration_since(self.begin)
    }
}

/// Calls that were to begin in the window, by what became of them; and what came in the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) offered: u64,
    /// Too many were under way.
    pub(super) not_sent: u64,
    pub(super) whole: u64,
    /// Of the whole ones.
    pub(super) late: u64,
    pub(super) partial: u64,
    pub(super) items_failed: u64,
    pub(super) busy: u64,
    /// Of the busy ones, those that did not say when to come back.
    pub(super) without_pushback: u64,
    pub(super) unavailable: u64,
    pub(super) deadline: u64,
    pub(super) lost: u64,
    pub(super) failed: u64,
    /// Images of whole answers in time that came in the window.
    pub(super) images: u64,
    /// Bytes of answered requests, likewise.
    pub(super) up: u64,
    /// Bytes of answers, likewise.
    pub(super) down: u64,
}

impl Counts {
    /// Calls that left this process.
    pub(super) const fn sent(&self) -> u64 {
        self.offered - self.not_sent
    }

    /// Share of the sent calls, in percent.
    pub(super) fn percent(&self, calls: u64) -> f64 {
        100.0 * calls as f64 / self.sent().max(1) as f64
    }
}

/// One second of a step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Second {
    /// Since the measured window began; negative in the warm-up.
    pub(super) at: f64,
    /// Images of calls that were to begin.
    pub(super) offered: u64,
    /// Images of whole answers in time.
    pub(super) good: u64,
    /// Of the answers that came, in milliseconds.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    /// Calls refused because the replica is full.
    pub(super) busy: u64,
    /// Calls under way at its end.
    pub(super) in_flight: u64,
    /// Of the replica, at its end.
    pub(super) replica: Option<Usage>,
}

/// The counters of one step.
pub(super) struct Tally {
    pub(super) window: Window,
    items: u64,
    deadline: Duration,
    state: Mutex<State>,
}

/// What is counted so far.
#[derive(Clone)]
pub(super) struct State {
    pub(super) counts: Counts,
    /// Microseconds from when a call was to begin to its whole answer.
    pub(super) latency: Histogram<u64>,
    /// Microseconds from when a call was to begin to when it did.
    pub(super) lag: Histogram<u64>,
    /// Microseconds that refused calls were told to wait.
    pub(super) pushback: Histogram<u64>,
    pub(super) in_flight: u64,
    pub(super) most_in_flight: u64,
    pub(super) complaints: BTreeMap<String, u64>,
    pub(super) seconds: Vec<Second>,
    /// Of the second under way.
    now: Counts,
    now_latency: Histogram<u64>,
    /// Since when connections fail and nothing is answered.
    silent_since: Option<Instant>,
}

impl Tally {
    /// For calls of so many images with this deadline.
    pub(super) fn new(window: Window, items: usize, deadline: Duration) -> Self {
        let state = State {
            counts: Counts::default(),
            latency: histogram(),
            lag: histogram(),
            pushback: histogram(),
            in_flight: 0,
            most_in_flight: 0,
            complaints: BTreeMap::new(),
            seconds: Vec::new(),
            now: Counts::default(),
            now_latency: histogram(),
            silent_since: None,
        };
        Self {
            window,
            items: items as u64,
            deadline,
            state: Mutex::new(state),
        }
    }

    /// A call that was to begin at `due` begins now.
    pub(super) fn sent(&self, due: Instant) {
        let mut state = self.state();
        state.in_flight += 1;
        state.most_in_flight = state.most_in_flight.max(state.in_flight);
        state.now.offered += 1;
        if self.window.has(due) {
            state.counts.offered += 1;
            state.lag.saturating_record(micros(due.elapsed()));
        }
    }

    /// A call that was to begin at `due` does not: too many are under way.
    pub(super) fn not_sent(&self, due: Instant) {
        let mut state = self.state();
        state.now.offered += 1;
        if self.window.has(due) {
            state.counts.offered += 1;
            state.counts.not_sent += 1;
        }
    }

    /// What became of a call that was to begin at `due`.
    pub(super) fn answered(&self, due: Instant, answer: &Answer) {
        let now = Instant::now();
        let latency = now.saturating_duration_since(due);
        let in_time = latency <= self.deadline.mul_f64(LATE);
        let mut guard = self.state();
        let state = &mut *guard;
        state.in_flight -= 1;
        match &answer.verdict {
            Verdict::Lost(_) => {
                state.silent_since.get_or_insert(now);
            }
            // It may have come from our own clock.
            Verdict::Deadline => {}
            _ => state.silent_since = None,
        }
        if answer.verdict == Verdict::Whole {
            state.now_latency.saturating_record(micros(latency));
            state.now.images += if in_time { self.items } else { 0 };
        }
        state.now.busy += u64::from(matches!(answer.verdict, Verdict::Busy(_)));
        if self.window.has(now) {
            state.counts.up += answer.up;
            state.counts.down += answer.down;
            if answer.verdict == Verdict::Whole && in_time {
                state.counts.images += self.items;
            }
        }
        if self.window.has(due) {
            state.count(&answer.verdict, latency, in_time);
        }
    }

    /// The `at`-th second of the step ends now.
    pub(super) fn second(&self, at: f64, replica: Option<Usage>) {
        let mut guard = self.state();
        let state = &mut *guard;
        let percentile = |quantile| milliseconds(&state.now_latency, quantile);
        state.seconds.push(Second {
            at,
            offered: state.now.offered * self.items,
            good: state.now.images,
            p50: percentile(0.5),
            p99: percentile(0.99),
            busy: state.now.busy,
            in_flight: state.in_flight,
            replica,
        });
        state.now = Counts::default();
        state.now_latency.reset();
    }

    /// For how long connections have failed while nothing was answered.
    pub(super) fn silent(&self) -> Duration {
        let since = self.state().silent_since;
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Everything so far.
    pub(super) fn so_far(&self) -> State {
        self.state().clone()
    }

    /// The state, for reading figures without a copy of everything.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, verdict: &Verdict, latency: Duration, in_time: bool) {
        let counts = &mut self.counts;
        match verdict {
            Verdict::Whole => {
                counts.whole += 1;
                counts.late += u64::from(!in_time);
                self.latency.saturating_record(micros(latency));
            }
            Verdict::Partial(items, why) => {
                counts.partial += 1;
                counts.items_failed += *items as u64;
                self.complain(format!("an item failed: {why}"));
            }
            Verdict::Busy(pushback) => {
                counts.busy += 1;
                match pushback {
                    Some(after) => self.pushback.saturating_record(micros(*after)),
                    None => counts.without_pushback += 1,
                }
            }
            Verdict::Unavailable(why) => {
                counts.unavailable += 1;
                self.complain(format!("unavailable: {why}"));
            }
            Verdict::Deadline => counts.deadline += 1,
            Verdict::Lost(why) => {
                counts.lost += 1;
                self.complain(format!("connection lost: {why}"));
            }
            Verdict::Failed(why) => {
                counts.failed += 1;
                self.complain(why.clone());
            }
        }
    }

    fn complain(&mut self, why: String) {
        if self.complaints.len() < MAX_COMPLAINTS || self.complaints.contains_key(&why) {
            *self.complaints.entry(why).or_default() += 1;
        }
    }
}

/// A percentile in milliseconds; `None` of nothing.
pub(super) fn milliseconds(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1e3)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST_MICROS, DIGITS).expect("the bounds are constants and valid")
}
