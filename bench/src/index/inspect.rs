//! What is in an index, as tables.

use std::collections::BTreeMap;

use preheat_client::{BadSamples, Check, Dataset, dataset::index::Index};

use super::Where;
use crate::report::{Cell, Report};

/// What to show.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Where,
    /// Bad samples that are listed, at most.
    #[arg(long, default_value_t = 20)]
    bad: usize,
    /// Shards that are listed, at most.
    #[arg(long, default_value_t = 10)]
    shards: usize,
}

/// Upper ends of the shapes, as longer over shorter side; the last is open.
const ASPECTS: [(f64, &str); 5] = [
    (1.05, "square"),
    (1.4, "to 1.4"),
    (1.6, "to 1.6"),
    (2.0, "to 2"),
    (f64::INFINITY, "over 2"),
];

pub(super) fn run(args: &Args) -> anyhow::Result<Report> {
    let (path, index) = args.place.open()?;
    let mut report = Report::default();
    report.note(format!("The file: {}", path.display()));
    sizes(&mut report, &index);
    if args.place.videos {
        let mut source = args.place.source(Check::Never);
        source.index = Some(path);
        lengths(
            &mut report,
            &Dataset::open(source, BadSamples::Substitute, &|_| ())?,
        );
    }
    parts(&mut report, &index);
    shards(&mut report, &index, args.shards);
    bad(&mut report, &index, args.bad);
    summary(&mut report, &index);
    Ok(report)
}

/// The figures that fit a line each.
pub(super) fn summary(report: &mut Report, index: &Index) {
    let (samples, bytes) = (index.len() as f64, index.file_bytes() as f64);
    report.figure("samples", samples, "");
    report.figure("shards", index.shards().len() as f64, "");
    report.figure("bad samples", index.bad().count() as f64, "");
    let dataset: u64 = index.shards().iter().map(|shard| shard.bytes).sum();
    report.figure("dataset", dataset as f64 / 1e6, "MB");
    report.figure("index", bytes / 1e6, "MB");
    report.figure("index per sample", bytes / samples.max(1.0), "bytes");
    report.note(format!("Found as: {}", index.format()));
    report.note(format!("Fingerprint: {}", index.fingerprint()));
}

/// Samples by area (each row doubles it) and shape, lying and standing.
fn sizes(report: &mut Report, index: &Index) {
    let mut areas: BTreeMap<u32, [u64; ASPECTS.len()]> = BTreeMap::new();
    for size in (0..index.len()).filter_map(|id| index.size(id)) {
        let (long, short) = (size.width.max(size.height), size.width.min(size.height));
        let aspect = f64::from(long) / f64::from(short);
        let shape = ASPECTS.iter().position(|(most, _)| aspect <= *most);
        // Rows as people think of sizes: 512 squared is the lower end of one.
        let row = areas.entry(size.area().ilog2()).or_default();
        row[shape.unwrap_or(ASPECTS.len() - 1)] += 1;
    }
    let rows = areas.iter().map(|(&area, row)| {
        let side = |area: u32| 2_f64.powf(f64::from(area) / 2.0).round();
        let name = format!("{0}x{0} to {1}x{1}", side(area), side(area + 1));
        let cells = row.iter().map(|&samples| Cell::Number(samples as f64));
        let sum = Cell::Number(row.iter().sum::<u64>() as f64);
        [Cell::Text(name)]
            .into_iter()
            .chain(cells)
            .chain([sum])
            .collect()
    });
    let columns: Vec<&str> = ["area"]
        .into_iter()
        .chain(ASPECTS.map(|(_, name)| name))
        .chain(["samples"])
        .collect();
    report.table(
        "Samples by area and longer over shorter side",
        &columns,
        rows.collect(),
    );
}

/// Videos by their frames (each row doubles them).
fn lengths(report: &mut Report, dataset: &Dataset) {
    let mut lengths: BTreeMap<u32, (u64, u64, f64)> = BTreeMap::new();
    for clip in (0..dataset.len()).filter_map(|id| dataset.clip(id)) {
        let extent = clip.extent;
        let (part, whole) = extent.time_base;
        let ticks = (extent.end - extent.first) as f64;
        let row = lengths
            .entry(extent.frames.checked_ilog2().unwrap_or(0))
            .or_default();
        row.0 += 1;
        row.1 += u64::from(extent.frames);
        row.2 += ticks * f64::from(part) / f64::from(whole);
    }
    let rows = lengths.iter().map(|(&power, &(videos, frames, seconds))| {
        vec![
            format!("{} to {}", 1_u64 << power, (2_u64 << power) - 1).into(),
            (videos as f64).into(),
            (frames as f64).into(),
            seconds.into(),
        ]
    });
    let columns = ["frames", "videos", "frames of all", "seconds of all"];
    report.table("Videos by frames", &columns, rows.collect());
}

fn parts(report: &mut Report, index: &Index) {
    let mut names: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    if index.part_names().is_empty() {
        return;
    }
    for (name, span) in (0..index.len()).flat_map(|id| index.parts(id).unwrap_or_default()) {
        let (samples, bytes) = names.entry(name.to_string()).or_default();
        *samples += 1;
        *bytes += u64::from(span.bytes);
    }
    let row = |(name, (samples, bytes)): (String, (u64, u64))| {
        let mean = bytes as f64 / samples as f64;
        vec![name.into(), (samples as f64).into(), mean.into()]
    };
    let rows = names.into_iter().map(row).collect();
    report.table(
        "What travels with them",
        &["part", "samples", "mean bytes"],
        rows,
    );
}

fn shards(report: &mut Report, index: &Index, most: usize) {
    let starts = index.shard_starts();
    let rows: Vec<_> = index
        .shards()
        .iter()
        .enumerate()
        .take(most)
        .map(|(at, shard)| {
            let end = starts.get(at + 1).copied().unwrap_or(index.len());
            let name = if shard.path.is_empty() {
                "."
            } else {
                &shard.path
            };
            let samples = (end - starts[at]) as f64;
            vec![
                name.into(),
                samples.into(),
                (shard.bytes as f64 / 1e6).into(),
            ]
        })
        .collect();
    let title = match index.shards().len() {
        all if all > rows.len() => format!("The first {} of {all} shards", rows.len()),
        _ => "Shards".to_owned(),
    };
    report.table(&title, &["shard", "samples", "MB"], rows);
}

fn bad(report: &mut Report, index: &Index, most: usize) {
    let count = index.bad().count();
    if count == 0 {
        return;
    }
    let rows: Vec<_> = index
        .bad()
        .take(most)
        .map(|(id, reason)| vec![(id as f64).into(), index.key(id).into(), reason.into()])
        .collect();
    let title = match rows.len() {
        shown if shown < count => format!("The first {shown} of {count} bad samples"),
        _ => "Bad samples".to_owned(),
    };
    report.table(&title, &["id", "sample", "why"], rows);
}
