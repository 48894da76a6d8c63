//! What is printed.

use std::time::Duration;

use super::{
    Args,
    crew::Ran,
    film::Unit,
    log::{Log, RankLog},
    protocol::Spec,
    tally::{Pace, Ride, ratio},
};
use crate::report::{Cell, Report};

const MIB: f64 = (1 << 20) as f64;
/// Without a figure.
const NONE: &str = "-";

/// How the trainers went, one row each.
pub(super) fn paces(
    report: &mut Report,
    unit: &Unit,
    (title, rows): (&str, &[(String, &Spec, &Log)]),
) {
    let columns = [
        "trainer",
        "step, ms",
        "steps",
        "steps/s",
        unit.per_second,
        "stall, %",
        "in the warm-up, s",
        "wait p50, ms",
        "p99, ms",
        "longest, ms",
        "batches ready",
    ];
    let row = |(name, spec, log): &(String, &Spec, &Log)| {
        let pace = Pace::of(log);
        let mut row: Vec<Cell> = vec![
            name.clone().into(),
            milliseconds(spec.step),
            (pace.steps as f64).into(),
            pace.steps_per_second().into(),
            pace.images_per_second().into(),
            (100.0 * pace.stall).into(),
            pace.stalled_before.as_secs_f64().into(),
        ];
        row.extend(pace.waits.map(milliseconds));
        row.push(pace.ready.into());
        row
    };
    report.table(title, &columns, rows.iter().map(row).collect());
}

/// What the ranks' processes used, one row each.
pub(super) fn processes(report: &mut Report, args: &Args, specs: &[Spec], ran: &Ran) {
    let cpu = format!("CPU, {}", args.film.unit().milliseconds);
    let mut columns = vec!["rank", &cpu];
    let clips = !args.film.frames.is_empty();
    if clips {
        columns.push("of it FFmpeg, %");
    }
    if args.cpu {
        columns.extend(["of it in the kernel, %", "cores busy"]);
    }
    columns.extend([
        "resident, MiB",
        "before the loader",
        "window at most",
        "bound",
        "grown by, % of the bound",
        "retries",
        "hedges",
    ]);
    let rows = specs.iter().map(|spec| {
        let log = &ran.logs[spec.trainer as usize];
        let rank = &log.ranks[spec.rank as usize];
        let cpu = rank.cpu_per_image();
        let mut row: Vec<Cell> = vec![
            format!("{}.{}", spec.trainer, spec.rank).into(),
            cpu.map_or(NONE.into(), milliseconds),
        ];
        if clips {
            let spent = |times: [Duration; 2]| times[1].saturating_sub(times[0]).as_secs_f64();
            row.push((100.0 * ratio(spent(rank.decoding), spent(rank.cpu))).into());
        }
        if args.cpu {
            row.extend(split(rank, log));
        }
        let mib = |bytes: u64| Cell::from(bytes as f64 / MIB);
        row.extend([
            mib(rank.resident),
            mib(rank.resident_before),
            mib(rank.bye.peak),
            mib(spec.window_bytes),
            (100.0 * ratio(rank.grown() as f64, spec.window_bytes as f64)).into(),
            (rank.bye.retries as f64).into(),
            (rank.bye.hedges as f64).into(),
        ]);
        row
    });
    let title =
        "Their processes (the loader and all of its threads; the simulated step costs nothing)";
    report.table(title, &columns, rows.collect());
}

/// Part of the processor time that was the kernel's, and cores that were busy.
fn split(rank: &RankLog, log: &Log) -> [Cell; 2] {
    let Some([from, to]) = rank.usage else {
        return [NONE.into(), NONE.into()];
    };
    let [cpu, system] = [to.cpu - from.cpu, to.system - from.system].map(|time| time.as_secs_f64());
    let [begin, end] = log.span();
    let busy = rank.cpu[1].saturating_sub(rank.cpu[0]).as_secs_f64();
    let seconds = end.saturating_sub(begin).as_secs_f64();
    [
        (100.0 * ratio(system, cpu)).into(),
        ratio(busy, seconds).into(),
    ]
}

/// How they came through the stop of the fleet.
pub(super) fn rides(report: &mut Report, ran: &Ran) {
    let Some(stopped) = ran.stopped else { return };
    let columns = [
        "trainer",
        "ready then",
        "good for, s",
        "ridden out, s",
        "stood still, s",
        "first batch after it, s",
        "window full again, s",
    ];
    let seconds = |time: Duration| Cell::from(time.as_secs_f64());
    let row = |(number, log): (usize, &Log)| match Ride::of(log, stopped) {
        None => {
            let mut row: Vec<Cell> = vec![number.to_string().into()];
            row.extend((1..columns.len()).map(|_| Cell::from(NONE)));
            row
        }
        Some(ride) => vec![
            number.to_string().into(),
            (ride.ready as f64).into(),
            seconds(ride.good_for),
            seconds(ride.ridden),
            seconds(ride.stalled),
            seconds(ride.first),
            ride.full.map_or(NONE.into(), seconds),
        ],
    };
    let [from, to] = stopped;
    let title = format!(
        "The stop of the whole fleet for {:.1} s",
        (to - from).as_secs_f64()
    );
    let rows = ran.logs.iter().enumerate().map(row).collect();
    report.table(&title, &columns, rows);
}

fn milliseconds(time: Duration) -> Cell {
    Cell::from(1e3 * time.as_secs_f64())
}
