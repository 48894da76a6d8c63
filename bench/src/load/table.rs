//! The figures of a run, as they are printed.

use super::{
    knee::{Point, Rule},
    outcome::{Kind, Outcome},
};
use crate::report::{Cell, Report};

/// Past this share of this machine's cores the figures may be those of the load generator.
const BUSY_HERE: f64 = 0.7;
/// Calls that begin later than this, in milliseconds, are the load generator's doing, if that is also
/// more than [`MATTERS`] of the median latency.
const LATE_HERE: f64 = 5.0;
const MATTERS: f64 = 0.1;
/// With fewer answers the p99 is the slowest one.
const MANY: u64 = 100;

/// What the steps say together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Most images a second of a closed loop that looked for it.
    pub(super) capacity: Option<f64>,
    /// The highest offered load that held.
    pub(super) knee: Option<Point>,
    /// The lowest that did not.
    pub(super) past: Option<Point>,
}

/// Looks at all steps together.
pub(super) fn find(outcomes: &[Outcome], limit: Option<f64>) -> Found {
    let probes = outcomes.iter().filter(|step| step.kind == Kind::Probe);
    let capacity = probes.map(Outcome::goodput).max_by(f64::total_cmp);
    let rule = Rule {
        limit,
        capacity: capacity.unwrap_or_default(),
    };
    let open = outcomes
        .iter()
        .filter(|step| matches!(step.kind, Kind::Open(_)));
    let points: Vec<Point> = open.map(Outcome::point).collect();
    // One load alone says nothing about others.
    let (knee, past) = if points.len() > 1 {
        rule.knee(&points)
    } else {
        (None, None)
    };
    Found {
        capacity,
        knee,
        past,
    }
}

/// All tables, figures and notes.
pub(super) fn report(outcomes: &[Outcome], found: Found, limit: Option<f64>) -> Report {
    let mut report = Report::default();
    rates(&mut report, outcomes);
    latencies(&mut report, outcomes);
    answers(&mut report, outcomes);
    machines(&mut report, outcomes);
    figures(&mut report, found, limit);
    warnings(&mut report, outcomes);
    report
}

fn rates(report: &mut Report, outcomes: &[Outcome]) {
    let row = |step: &Outcome| -> Vec<Cell> {
        let megabytes = |bytes: u64| bytes as f64 / 1e6 / step.seconds();
        let counts = &step.counts;
        vec![
            step.name.as_str().into(),
            step.offered().into(),
            step.sent().into(),
            step.goodput().into(),
            megabytes(counts.up).into(),
            megabytes(counts.down).into(),
            counts.percent(counts.busy).into(),
            (step.most_in_flight as f64).into(),
        ]
    };
    let columns = [
        "step",
        "offered img/s",
        "sent img/s",
        "goodput img/s",
        "up MB/s",
        "down MB/s",
        "busy %",
        "most in flight",
    ];
    report.table("Load", &columns, outcomes.iter().map(row).collect());
}

fn latencies(report: &mut Report, outcomes: &[Outcome]) {
    let row = |step: &Outcome| {
        let mut row: Vec<Cell> = vec![step.name.as_str().into(), (step.counts.whole as f64).into()];
        match step.latency {
            Some(latency) => row.extend(latency.map(Cell::from)),
            None => row.extend(["-"; 5].map(Cell::from)),
        }
        row.push(step.lag.into());
        row
    };
    let columns = [
        "step",
        "answers",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "sent late",
    ];
    let title = "Latency of whole answers, ms";
    report.table(title, &columns, outcomes.iter().map(row).collect());
}

fn answers(report: &mut Report, outcomes: &[Outcome]) {
    let row = |step: &Outcome| {
        let counts = &step.counts;
        let ended = counts.whole
            + counts.partial
            + counts.busy
            + counts.unavailable
            + counts.deadline
            + counts.lost
            + counts.failed;
        let all = [
            counts.offered,
            counts.not_sent,
            counts.whole,
            counts.late,
            counts.partial,
            counts.items_failed,
            counts.busy,
            counts.without_pushback,
            counts.unavailable,
            counts.deadline,
            counts.lost,
            counts.failed,
            counts.sent().saturating_sub(ended),
        ];
        let mut row: Vec<Cell> = vec![step.name.as_str().into()];
        row.extend(all.map(|count| Cell::from(count as f64)));
        row.push(step.pushback.map_or(Cell::from("-"), Cell::from));
        row
    };
    let columns = [
        "step",
        "calls",
        "not sent",
        "whole",
        "late",
        "partial",
        "items failed",
        "busy",
        "no pushback",
        "unavailable",
        "deadline",
        "lost",
        "failed",
        "cut off",
        "pushback ms",
    ];
    report.table(
        "What became of the calls",
        &columns,
        outcomes.iter().map(row).collect(),
    );
}

fn machines(report: &mut Report, outcomes: &[Outcome]) {
    let started_here = outcomes.iter().any(|step| step.before.is_some());
    let row = |step: &Outcome| {
        let mut row: Vec<Cell> = vec![step.name.as_str().into(), (100.0 * step.cores).into()];
        if started_here {
            let used: Vec<_> = step.replica().collect();
            let megabytes = |bytes: Option<u64>| {
                bytes.map_or(Cell::from("-"), |bytes| Cell::from(bytes as f64 / 1e6))
            };
            let cpu = used.first().zip(used.last());
            let cpu = cpu.map(|(first, last)| last.cpu.saturating_sub(first.cpu).as_secs_f64());
            row.push(cpu.map_or(Cell::from("-"), Cell::from));
            row.push(megabytes(used.first().map(|usage| usage.resident)));
            row.push(megabytes(used.iter().map(|usage| usage.resident).max()));
            row.push(megabytes(used.last().map(|usage| usage.resident)));
        }
        row
    };
    let mut columns = vec!["step", "this process, % of a core"];
    if started_here {
        columns.extend([
            "replica, CPU s",
            "its memory at start, MB",
            "most",
            "at end",
        ]);
    }
    report.table("Processes", &columns, outcomes.iter().map(row).collect());
}

fn figures(report: &mut Report, found: Found, limit: Option<f64>) {
    if let Some(capacity) = found.capacity {
        report.figure("capacity (most of a closed loop)", capacity, "images/s");
    }
    if let Some(knee) = found.knee {
        report.figure(
            "knee (offered load that still held)",
            knee.offered,
            "images/s",
        );
        report.figure("p99 there", knee.p99.unwrap_or(f64::NAN), "ms");
    }
    if let Some(past) = found.past {
        report.figure("lowest load that did not hold", past.offered, "images/s");
    }
    match (found.knee, found.past) {
        (Some(_), None) => {
            report.note("The knee was not reached: even the highest offered load held.");
        }
        (None, Some(_)) => {
            report.note("No offered load held, not even the lowest: the knee lies below.");
        }
        _ => {}
    }
    if found.knee.or(found.past).is_some() {
        let limit = limit.map_or_else(
            || "10 times the p99 of the lightest load".to_owned(),
            |limit| format!("{limit} ms"),
        );
        report.note(format!(
            "A load holds if at least 95 % of it comes back whole and in time (give or take what \
             chance makes of few calls), at a p99 of at most {limit}."
        ));
    }
    report.note(
        "offered, latency and what became of the calls: of calls that were to begin in the measured \
         time; in open loops latency counts from then. goodput and MB/s: of what came in the \
         measured time, whole and in time (at most 10 % past the deadline). sent late: p99 of how \
         late this program began its calls. no pushback: busy answers that did not say when to come \
         back; pushback: the median of those that did. cut off: under way when the run ended.",
    );
}

fn warnings(report: &mut Report, outcomes: &[Outcome]) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let names = |wrong: &dyn Fn(&Outcome) -> bool| {
        let names = outcomes.iter().filter(|step| wrong(step));
        names
            .map(|step| step.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let busy = names(&|step| step.cores > BUSY_HERE * cores);
    let late = names(&|step| {
        let median = step.latency.map_or(0.0, |latency| latency[0]);
        step.lag > LATE_HERE.max(MATTERS * median)
    });
    let few = names(&|step| step.kind != Kind::Probe && step.counts.whole < MANY);
    if !few.is_empty() {
        report.note(format!(
            "Fewer than {MANY} answers in {few}: the p99 there is little more than the slowest. Raise \
             --seconds, or lower --items."
        ));
    }
    for (steps, what) in [
        (busy, "this machine was nearly out of CPU for sending"),
        (late, "calls began late (column `sent late`)"),
    ] {
        if !steps.is_empty() {
            report.note(format!(
                "CAREFUL: in {steps} {what}: the figures may be those of this program, not of the \
                 endpoint. Send from a larger machine, or from several."
            ));
        }
    }
    for step in outcomes {
        for (complaint, count) in &step.complaints {
            report.note(format!("{}: {count} times: {complaint}", step.name));
        }
    }
}
