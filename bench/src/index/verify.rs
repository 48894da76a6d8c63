//! Whether an index is whole, up to date, and true.

use std::io::Cursor;

use anyhow::Context as _;
use image::ImageReader;
use indicatif::{ProgressBar, ProgressStyle};
use preheat_client::{
    BadSamples, Check, Dataset,
    dataset::{Clip, sample::Sample},
};
use preheat_clips::{Ffmpeg, Input, Limits};

use super::{Where, runtime};
use crate::{
    clips,
    report::{Cell, Report},
};

/// Faults that are listed, at most: a dataset that is gone is one fault a sample.
const MAX_LISTED: usize = 20;

/// What to verify.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Where,
    /// Samples that are read, chosen at random.
    #[arg(long, default_value_t = 1000, conflicts_with = "all")]
    samples: u64,
    /// Read every sample.
    #[arg(long)]
    all: bool,
    /// Seed of the choice.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Report> {
    let (path, index) = args.place.open()?;
    let mut report = Report::default();
    report.note(format!("The file: {}", path.display()));
    if let Err(reason) = index.verify() {
        report.incomplete(format!("{} {reason}", path.display()));
        return Ok(report);
    }
    let changes = index.changes(&args.place.shards()?);
    let kinds = [
        ("changed", &changes.changed),
        ("new", &changes.new),
        ("gone", &changes.gone),
    ];
    let mut faults: Vec<Vec<Cell>> = Vec::new();
    for (kind, shards) in kinds {
        report.figure(format!("shards {kind}"), shards.len() as f64, "");
        faults.extend(
            shards
                .iter()
                .map(|path| vec![path.as_str().into(), kind.into()]),
        );
    }
    let mut source = args.place.source(Check::Never);
    source.index = Some(path);
    let dataset = Dataset::open(source, BadSamples::Substitute, &|_| ())?;
    let ids = choose(args, &dataset);
    report.figure("samples read", ids.len() as f64, "");
    let before = faults.len();
    let ffmpeg = args.place.videos.then(|| clips::ffmpeg("--videos"));
    let ffmpeg = ffmpeg.transpose()?;
    read(&dataset, (&ids, ffmpeg.as_ref()), &mut faults)?;
    report.figure("samples at fault", (faults.len() - before) as f64, "");
    if !faults.is_empty() {
        let count = faults.len();
        faults.truncate(MAX_LISTED);
        let title = match faults.len() {
            shown if shown < count => format!("The first {shown} of {count} faults"),
            _ => "Faults".to_owned(),
        };
        report.table(&title, &["what", "fault"], faults);
        report.incomplete("the index is not true to the dataset: see above. Build it anew");
    }
    Ok(report)
}

fn choose(args: &Args, dataset: &Dataset) -> Vec<u64> {
    let good = |id: &u64| dataset.size(*id).is_some();
    if args.all || args.samples >= dataset.len() {
        return (0..dataset.len()).filter(good).collect();
    }
    let mut random = fastrand::Rng::with_seed(args.seed);
    let mut ids: Vec<u64> = (0..args.samples)
        .map(|_| random.u64(0..dataset.len()))
        .filter(good)
        .collect();
    // In the order in which they lie, as a disk likes it.
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn read(
    dataset: &Dataset,
    (ids, ffmpeg): (&[u64], Option<&Ffmpeg>),
    faults: &mut Vec<Vec<Cell>>,
) -> anyhow::Result<()> {
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} samples  {elapsed}");
    let bar = ProgressBar::new(ids.len() as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let runtime = runtime()?;
    for &id in ids {
        let sample = || runtime.block_on(dataset.read(id));
        let seen = match (dataset.clip(id), ffmpeg) {
            (Some(clip), Some(ffmpeg)) => same_video(dataset, (id, &clip), ffmpeg, sample),
            _ => sample().and_then(|sample| like(dataset, id, &sample.image)),
        };
        if let Err(fault) = seen {
            faults.push(vec![dataset.key(id).into_owned().into(), fault.into()]);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Whether an image is the one that was indexed, as far as its header tells.
fn like(dataset: &Dataset, id: u64, image: &[u8]) -> Result<(), String> {
    let indexed = dataset.size(id).ok_or("is bad")?;
    let seen = ImageReader::new(Cursor::new(image))
        .with_guessed_format()
        .context("no image")
        .and_then(|reader| Ok(reader.into_dimensions()?))
        .map_err(|error| format!("{error:#}"))?;
    // Its orientation may exchange them.
    let (width, height) = seen;
    let alike = [(width, height), (height, width)].contains(&(indexed.width, indexed.height));
    match alike {
        true => Ok(()),
        false => Err(format!("is {width}x{height}, was indexed as {indexed}")),
    }
}

/// Whether a video has the frames that were indexed. Those of a directory are its files, which are compared
/// with the store as shards are.
fn same_video(
    dataset: &Dataset,
    (id, clip): (u64, &Clip),
    ffmpeg: &Ffmpeg,
    sample: impl Fn() -> Result<Sample, String>,
) -> Result<(), String> {
    if clip.is_files() {
        return Ok(());
    }
    let input = match dataset.path(id) {
        Some(path) => Input::Path(path),
        None => Input::Bytes(sample()?.image),
    };
    let seen = ffmpeg.probe(&input, &Limits::default());
    let seen = seen.map_err(|error| error.to_string())?;
    let indexed = dataset.size(id).ok_or("is bad")?;
    if (seen.width, seen.height) != (indexed.width, indexed.height) {
        let (width, height) = (seen.width, seen.height);
        return Err(format!("is {width}x{height}, was indexed as {indexed}"));
    }
    match seen.time_base == clip.extent.time_base && seen.times == clip.times {
        true => Ok(()),
        false => Err(format!(
            "has {} frames, or at other times than the {} that were indexed",
            seen.times.len(),
            clip.times.len()
        )),
    }
}
