//! The table of what was measured.

use std::fs;

use super::{Args, Case, Lane};
use crate::report::{Cell, Report, median};

fn columns(args: &Args) -> Vec<String> {
    let clips = args.frames > 1;
    let rate = if clips { "clips/s" } else { "images/s" };
    let mut columns: Vec<String> = Vec::new();
    let mut add = |more: &[&str]| columns.extend(more.iter().map(|&name| name.to_owned()));
    add(&["size", "batch", "dtype", rate, "ms/batch", "GFLOP/s"]);
    if clips {
        add(&["frames/s"]);
    }
    if args.through_loader {
        add(&[&format!("loader {rate}"), "loader/ours"]);
    }
    if args.compare_python.is_some() {
        add(&[&format!("PyTorch {rate}"), "ours/PyTorch"]);
        if args.compare_compiled {
            add(&[&format!("compiled {rate}"), "ours/compiled"]);
        }
        add(&["error", "PyTorch's"]);
    }
    columns
}

/// One row a case.
pub(super) fn report(args: &Args, cases: &[Case], lanes: &[Lane]) -> Report {
    let mut report = Report::default();
    let clips = args.frames > 1;
    let versus = |case: &Case, other: &[f64], ours: fn((&f64, &f64)) -> f64| -> [Cell; 2] {
        let ratios: Vec<f64> = case.in_process.iter().zip(other).map(ours).collect();
        [median(other).into(), median(&ratios).into()]
    };
    let row = |case: &Case| {
        let rate = median(&case.in_process);
        let gflops = case.flops as f64 / case.batch as f64 / 1e9;
        let mut row: Vec<Cell> = vec![
            format!("{0}x{0}", case.size).into(),
            (case.batch as f64).into(),
            lanes[case.lane].ours.spec().dtype.to_string().into(),
            rate.into(),
            (1e3 * case.batch as f64 / rate).into(),
            (gflops * rate).into(),
        ];
        if clips {
            row.push((args.frames as f64 * rate).into());
        }
        if args.through_loader {
            row.extend(versus(case, &case.through_loader, |(ours, loader)| {
                loader / ours
            }));
        }
        if args.compare_python.is_some() {
            row.extend(versus(case, &case.torch, |(ours, torch)| ours / torch));
            if args.compare_compiled {
                row.extend(versus(case, &case.compiled, |(ours, torch)| ours / torch));
            }
            let distances = case.distances.unwrap_or([f64::NAN; 2]);
            row.extend(distances.map(|distance| Cell::from(format!("{distance:.1e}"))));
        }
        row
    };
    let what = match args.frames {
        1 => "images".to_owned(),
        frames => format!("clips of {frames} frames"),
    };
    let title = format!(
        "{} on {}, {what}, median of {} rounds",
        args.model, args.device, args.rounds
    );
    let columns = columns(args);
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    report.table(&title, &columns, cases.iter().map(row).collect());
    if let Some(bytes) = peak_memory() {
        report.figure("peak memory of this process", bytes as f64 / 1e6, "MB");
    }
    if lanes.iter().any(|lane| lane.ours.spec().untrained) {
        report.note("This model is untrained: its speed is real, its latents mean nothing.");
    }
    if args.through_loader {
        report.note(
            "loader: what a loader in this process gets from a replica in another, from \
             files to latents; ours: plain encode calls on ready pixels in this process. Ratios are \
             medians of the rounds' ratios.",
        );
    }
    report
}

/// The most memory that this process ever held, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
