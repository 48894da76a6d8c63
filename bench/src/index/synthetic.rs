//! How an index of very many samples opens: made up, written by the real builder, opened in a process
//! of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use indicatif::ProgressBar;
use preheat_client::{
    dataset::{
        Found, Shard, Span,
        index::{Builder, Index},
    },
    plan::Size,
};

use super::runtime;
use crate::report::Report;

/// Samples of one made-up shard: as many as a common tar holds.
const SHARD: u64 = 10_000;
/// Bytes of one made-up image.
const IMAGE: u32 = 50_000;
/// Look-ups after opening, each of another page.
const LOOKS: u64 = 100_000;

/// How much to make up.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write it: about 32 bytes a sample, and as much again while it is built.
    path: PathBuf,
    /// Samples.
    #[arg(long, default_value_t = 100_000_000)]
    samples: u64,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let start = Instant::now();
    let index = write(args)?;
    report.figure("build", start.elapsed().as_secs_f64(), "s");
    report.figure("samples", index.len() as f64, "");
    report.figure("file", index.file_bytes() as f64 / 1e6, "MB");
    // Not in this process: its memory is not what it was at first.
    let program = env::current_exe().context("where this program is")?;
    let status = Command::new(program)
        .args(["index".as_ref(), "open".as_ref(), args.path.as_os_str()])
        .status()
        .context("opening it in another process")?;
    ensure!(status.success(), "opening failed");
    Ok(report)
}

fn write(args: &Args) -> anyhow::Result<Index> {
    let mut builder = runtime()?.block_on(Builder::begin(&args.path, "synthetic"))?;
    let bar = ProgressBar::new(args.samples);
    let mut shards = Vec::new();
    let mut first = 0;
    while first < args.samples {
        let count = SHARD.min(args.samples - first);
        let shard = Shard {
            path: format!("{:06}.tar", shards.len()),
            bytes: count * u64::from(IMAGE),
            etag: Some(format!("\"{first:032x}\"")),
            modified_ms: 1_700_000_000_000,
        };
        let found: Vec<Found> = (0..count).map(|at| sample(first + at, at)).collect();
        builder.add(&shard, &found)?;
        shards.push(shard);
        first += count;
        bar.inc(count);
    }
    bar.finish_and_clear();
    Ok(builder.finish(shards)?)
}

fn sample(id: u64, at: u64) -> Found {
    let size = Size::new(512 + (id % 1024) as u32, 512 + (id / 1024 % 1024) as u32);
    Found {
        key: format!("{id:012}"),
        image: Span {
            at: at * u64::from(IMAGE),
            bytes: IMAGE,
        },
        size: Ok(size),
        parts: Vec::new(),
        clip: Vec::new(),
    }
}

/// Opens an index and says what that took.
///
/// # Errors
/// Where it cannot be opened.
pub(super) fn open(path: &Path) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let before = resident()?;
    let start = Instant::now();
    let index = Index::open(path)?;
    let took = start.elapsed().as_secs_f64();
    let after = resident()?;
    report.figure("samples", index.len() as f64, "");
    report.figure("open", took * 1e3, "ms");
    report.figure("resident after opening", after, "MiB");
    report.figure("of which the index", after - before, "MiB");
    let start = Instant::now();
    let mut random = fastrand::Rng::with_seed(0);
    for _ in 0..LOOKS {
        let id = random.u64(0..index.len());
        index.entry(id).map_err(anyhow::Error::msg)?;
    }
    let each = start.elapsed().as_secs_f64() / LOOKS as f64;
    report.figure("look-up at random", each * 1e6, "us");
    report.figure("resident after look-ups", resident()?, "MiB");
    Ok(report)
}

/// What this process has in memory, pages of files included, in MiB.
fn resident() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    Ok(kib.context("no VmRSS in /proc/self/status")? / 1024.0)
}
