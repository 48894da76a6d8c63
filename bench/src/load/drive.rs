//! One step: calls begin by a clock (open loop) or as others end (closed loop).

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    judge::{Answer, Verdict},
    schedule::Arrivals,
    tally::{Tally, Window},
};

/// After a run is stopped: how long calls under way may take to end.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// How long calls under way may take to end after a step, as a share of their deadline: they end
/// themselves before. See [`Caller::call`].
const DRAIN: f64 = 1.5;
/// The shortest and the longest pause of a closed loop after a refusal. The first also stands in for
/// a pushback that was not given.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// Whoever can be called.
pub(super) trait Caller: Send + Sync + 'static {
    /// One call, the `index`-th of the step. Ends within its deadline and a quarter.
    fn call(&self, index: u64) -> impl Future<Output = Answer> + Send;
}

/// How calls begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// So many are always under way.
    Closed(usize),
    /// So many a second, whatever becomes of them.
    Open {
        /// Calls a second.
        rate: f64,
        /// Seed of the arrivals.
        seed: u64,
        /// Calls under way, at most; past it arrivals are counted as not sent.
        bound: usize,
    },
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) pace: Pace,
    /// Before the window.
    pub(super) warmup: Duration,
    /// Of the window.
    pub(super) time: Duration,
    /// Of every call.
    pub(super) deadline: Duration,
}

impl Step {
    /// The window of a step that begins now.
    pub(super) fn window(&self) -> Window {
        let begin = Instant::now() + self.warmup;
        Window {
            begin,
            end: begin + self.time,
        }
    }
}

/// A run may be stopped, once, for a reason.
#[derive(Clone, Debug)]
pub(super) struct Stop(Arc<watch::Sender<Option<String>>>);

impl Stop {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Ends the run. The first reason counts.
    pub(super) fn now(&self, why: impl Into<String>) {
        self.0.send_if_modified(|reason| {
            let first = reason.is_none();
            if first {
                *reason = Some(why.into());
            }
            first
        });
    }

    /// Why the run ends, if it does.
    pub(super) fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Completes when the run ends.
    pub(super) async fn stopped(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }
}

/// Runs one step to its end; all its calls have ended then.
pub(super) async fn drive<C: Caller>(caller: &Arc<C>, step: Step, tally: &Arc<Tally>, stop: &Stop) {
    let mut calls = JoinSet::new();
    match step.pace {
        Pace::Closed(slots) => {
            for slot in 0..slots as u64 {
                let (caller, tally) = (Arc::clone(caller), Arc::clone(tally));
                let stride = slots as u64;
                calls.spawn(closed(caller, tally, stop.clone(), (slot, stride)));
            }
            tokio::select! {
                () = sleep_until(tally.window.end) => {}
                () = stop.stopped() => {}
            }
        }
        Pace::Open { rate, seed, bound } => {
            let arrivals = Arrivals::new(rate, seed);
            open(caller, (arrivals, bound), tally, stop, &mut calls).await;
        }
    }
    let patience = match stop.reason() {
        Some(_) => STOP_GRACE,
        None => step.deadline.mul_f64(DRAIN),
    };
    let drain = async { while calls.join_next().await.is_some() {} };
    tokio::select! {
        _ = timeout(patience, drain) => {}
        () = async { stop.stopped().await; sleep(STOP_GRACE).await } => {}
    }
    calls.shutdown().await;
}

async fn open<C: Caller>(
    caller: &Arc<C>,
    (arrivals, bound): (Arrivals, usize),
    tally: &Arc<Tally>,
    stop: &Stop,
    calls: &mut JoinSet<()>,
) {
    let begin = Instant::now();
    let end = tally.window.end;
    for (index, at) in (0..).zip(arrivals) {
        let due = begin + at;
        tokio::select! {
            () = sleep_until(due.min(end)) => {}
            () = stop.stopped() => return,
        }
        if due >= end {
            return;
        }
        while calls.try_join_next().is_some() {}
        if calls.len() >= bound {
            tally.not_sent(due);
            continue;
        }
        tally.sent(due);
        let (caller, tally) = (Arc::clone(caller), Arc::clone(tally));
        calls.spawn(async move {
            let answer = caller.call(index).await;
            tally.answered(due, &answer);
        });
    }
}

async fn closed<C: Caller>(
    caller: Arc<C>,
    tally: Arc<Tally>,
    stop: Stop,
    (slot, stride): (u64, u64),
) {
    let mut index = slot;
    while Instant::now() < tally.window.end && stop.reason().is_none() {
        let due = Instant::now();
        tally.sent(due);
        let answer = caller.call(index).await;
        tally.answered(due, &answer);
        index += stride;
        if let Some(pause) = pause(&answer.verdict) {
            let until = (Instant::now() + pause).min(tally.window.end);
            tokio::select! {
                () = sleep_until(until) => {}
                () = stop.stopped() => {}
            }
        }
    }
}

/// How long whoever got this answer waits before the next call.
fn pause(verdict: &Verdict) -> Option<Duration> {
    match verdict {
        Verdict::Whole | Verdict::Partial(..) | Verdict::Deadline => None,
        Verdict::Busy(pushback) => Some(pushback.unwrap_or(PAUSE[0]).clamp(PAUSE[0], PAUSE[1])),
        Verdict::Unavailable(_) | Verdict::Lost(_) | Verdict::Failed(_) => Some(PAUSE[0]),
    }
}

#[cfg(test)]
mod tests;
