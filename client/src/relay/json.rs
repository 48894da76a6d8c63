//! The view for programs that draw their own pages. Names are stable; there may be more in time.

use serde::Serialize;

use crate::balance::{QueueView, View, discover::Trouble};

#[derive(Serialize)]
struct Json<'a> {
    replicas: Vec<Replica<'a>>,
    trainers: Vec<Trainer<'a>>,
    queue: Queue,
    desired: Desired,
    totals: Totals,
    troubles: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Replica<'a> {
    name: &'a str,
    standing: &'static str,
    reason: &'a str,
    pixels_per_second: f64,
    outstanding_pixels: u64,
    outstanding_calls: u32,
    answered_calls: u64,
    answered_pixels: u64,
    faults: u64,
    ejections: u64,
}

#[derive(Serialize)]
struct Trainer<'a> {
    name: &'a str,
    weight: f64,
    queued_pixels: u64,
    outstanding_pixels: u64,
    pixels_per_second: f64,
    ahead_seconds: f64,
    ready_batches: Option<u64>,
    late: u64,
    answered: u64,
}

#[derive(Serialize)]
struct Queue {
    requests: u64,
    pixels: u64,
    by_slack: Vec<Slack>,
}

#[derive(Serialize)]
struct Slack {
    /// Needed in less than this and not less than the one before; without a bound in the last.
    below_seconds: Option<f64>,
    requests: u64,
}

#[derive(Serialize)]
struct Desired {
    replicas: u32,
    up: u32,
    utilization: f64,
    starving: bool,
}

#[derive(Serialize)]
struct Totals {
    submitted: u64,
    answered: u64,
    failed: u64,
    full: u64,
    retries: u64,
    hedges: u64,
    hedges_won: u64,
    out_of_budget: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    entry: &'a str,
    reason: &'a str,
}

/// All replicas and trainers.
pub(super) fn render(view: &View, troubles: &[Trouble]) -> String {
    let replicas = view.replicas.iter().map(|r| Replica {
        name: &r.name,
        standing: r.standing.word(),
        reason: &r.reason,
        pixels_per_second: r.pixels_per_second,
        outstanding_pixels: r.outstanding_pixels,
        outstanding_calls: r.outstanding_calls,
        answered_calls: r.answered_calls,
        answered_pixels: r.answered_pixels,
        faults: r.faults,
        ejections: r.ejections,
    });
    let trainers = view.trainers.iter().map(|t| Trainer {
        name: &t.name,
        weight: t.weight,
        queued_pixels: t.queued_pixels,
        outstanding_pixels: t.outstanding_pixels,
        pixels_per_second: t.pixels_per_second,
        ahead_seconds: t.ahead.as_secs_f64(),
        ready_batches: t.ready_batches,
        late: t.late,
        answered: t.answered,
    });
    let troubles = troubles.iter().map(|t| Line {
        entry: &t.entry,
        reason: &t.reason,
    });
    let (desired, totals) = (&view.desired, &view.totals);
    let json = Json {
        replicas: replicas.collect(),
        trainers: trainers.collect(),
        queue: queue(&view.queue),
        desired: Desired {
            replicas: desired.replicas,
            up: desired.up,
            utilization: desired.utilization,
            starving: desired.starving,
        },
        totals: Totals {
            submitted: totals.submitted,
            answered: totals.answered,
            failed: totals.failed,
            full: totals.full,
            retries: totals.retries,
            hedges: totals.hedges,
            hedges_won: totals.hedges_won,
            out_of_budget: totals.out_of_budget,
        },
        troubles: troubles.collect(),
    };
    serde_json::to_string(&json).unwrap_or_default()
}

fn queue(queue: &QueueView) -> Queue {
    let bounds = QueueView::SLACK
        .iter()
        .map(|slack| Some(slack.as_secs_f64()));
    let classes = bounds.chain([None]).zip(queue.by_slack);
    Queue {
        requests: queue.requests,
        pixels: queue.pixels,
        by_slack: classes
            .map(|(below_seconds, requests)| Slack {
                below_seconds,
                requests,
            })
            .collect(),
    }
}
