//! `preheat-bench load`: what an endpoint stands. Calls like those of a loader, through the connections
//! of a loader, in a closed loop, in an open loop, or in a ramp that looks for the knee.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use preheat_proto::{DType, Posterior, limits};
use tokio::runtime::Builder;

use crate::report::Report;

mod client;
mod csv;
mod drive;
mod judge;
mod knee;
mod live;
mod outcome;
pub(crate) mod photo;
mod picture;
mod request;
mod schedule;
mod session;
mod table;
mod tally;
mod target;
pub(crate) mod typed;
pub(crate) mod usage;

use client::Client;
use outcome::Outcome;
use photo::Photos;
use request::Asked;
use session::Session;
use target::Where;
use typed::{Rate, Weighted};

/// Calls under way at once, at most: of all the ways to overload a machine, forgetting this one
/// overloads one's own.
const MOST_IN_FLIGHT: i64 = 65_536;
/// Seconds of a step, a warm-up or a deadline, at most: a day.
const MAX_SECONDS: f64 = 86_400.0;
/// KiB of a remade photo, at most: a message of one still fits.
const MAX_KIB: i64 = 32 * 1024;

/// Options of `preheat-bench load`. Without --closed and --open it ramps.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    to: Where,
    /// Closed loops: so many calls are always under way, a step each. A refused call waits for the
    /// pushback.
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = in_flight())]
    closed: Vec<usize>,
    /// Open loops: so many images a second are offered, a step each, or so many times the capacity
    /// (0.5x, 3x), which closed loops then look for first. Calls begin at random times, do not wait
    /// for each other, and are not retried; latency counts from when a call was to begin.
    #[arg(long, value_name = "R,...", value_delimiter = ',')]
    open: Vec<Rate>,
    /// Open loops from a quarter of the capacity upwards, each a third above the one before, until one
    /// does not hold: less than 95 % of it comes back whole and in time (give or take what chance makes
    /// of few calls), or its p99 exceeds 10 times that of the lightest (or --p99-limit). Then twice the
    /// middle between the last that held and the first that did not.
    #[arg(long)]
    ramp: bool,
    /// The p99 that is still fine, in milliseconds.
    #[arg(long, value_name = "MS", value_parser = positive)]
    p99_limit: Option<f64>,
    /// Seconds of a step that are measured; half of it where the capacity is looked for.
    #[arg(long, default_value = "10", value_parser = positive)]
    seconds: f64,
    /// Seconds before that are not.
    #[arg(long, default_value = "2", value_parser = seconds)]
    warmup: f64,
    /// Calls under way at once in open loops; past it calls count as not sent. Also the most that
    /// looking for the capacity tries.
    #[arg(long, value_name = "N", default_value = "512", value_parser = in_flight())]
    in_flight: usize,
    /// Seconds after which an answer is of no use: the deadline of every call.
    #[arg(long, default_value = "30", value_parser = positive)]
    timeout: f64,
    /// Photos of a call.
    #[arg(long, value_name = "N", default_value = "16", value_parser = items())]
    items: usize,
    /// Send clips of so many frames instead, each made of one photo again and again: --items then counts
    /// clips, and so does every figure of images.
    #[arg(long, value_name = "N", default_value = "1", value_parser = frames())]
    frames: u32,
    /// Output sizes: sides of squares or WIDTHxHEIGHT in pixels, with weights: 512:3,1024x768:1. A
    /// call has one.
    #[arg(
        long,
        value_name = "SIZE,...",
        value_delimiter = ',',
        default_value = "256"
    )]
    size: Vec<Weighted>,
    /// Send photos of this folder instead of the bundled ones.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Make photos of so many KiB from some of them: scaled, saved as JPEG of quality 90, at most a
    /// tenth of it padding (unless that takes more than 32 million pixels).
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u32).range(2..=MAX_KIB))]
    bytes: Option<u32>,
    /// What to ask for: mode, sample or moments.
    #[arg(long, default_value = "mode", value_parser = posterior)]
    posterior: Posterior,
    /// Type of the latents: f32, f16 or bf16.
    #[arg(long, default_value = "f32")]
    dtype: DType,
    /// Seed of arrivals and of the order of photos and sizes.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rng_seed: u64,
    /// Write a time series, second by second.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Draw latency and goodput against offered load, as PNG.
    #[arg(long, value_name = "FILE.png")]
    picture: Option<PathBuf>,
}

impl Args {
    /// Warm-up and measured time of a step.
    fn times(&self) -> [Duration; 2] {
        [self.warmup, self.seconds].map(Duration::from_secs_f64)
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout)
    }
}

/// Runs all steps.
///
/// # Errors
/// Within seconds, where the endpoint cannot be reached or does not take such calls, and where a file
/// cannot be written. A run that ends before its time is no error here: the report says so.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    // Found out now, not after minutes of measuring.
    let csv = args.csv.as_deref().map(create).transpose()?;
    if let Some(path) = &args.picture {
        let png = path
            .extension()
            .is_some_and(|text| text.eq_ignore_ascii_case("png"));
        ensure!(png, "--picture is {}, must end in .png", path.display());
        create(path)?;
    }
    let bytes = args.bytes.map(|kib| kib as usize * 1024);
    let photos = Photos::open(args.images.as_deref(), bytes, args.rng_seed)?;
    let replica = args.to.start()?;
    let runtime = Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start an async runtime")?;
    let (outcomes, ended, sent) = runtime.block_on(async {
        let target = args.to.target(replica.as_ref()).await?;
        let asked = Asked {
            items: args.items,
            frames: args.frames,
            dtype: args.dtype,
            posterior: args.posterior,
            timeout: args.timeout(),
        };
        let calls = request::prepare(&target, &photos.photos, &args.size, &asked, args.rng_seed)?;
        let client = Client { target, calls };
        client.try_all_sizes().await?;
        let sent = describe(&client, &photos);
        let process = replica.as_ref().map(crate::replica::Replica::id);
        let mut session = Session::new(args, client, process);
        let ended = session.run().await?;
        anyhow::Ok((session.outcomes, ended, sent))
    })?;
    let found = table::find(&outcomes, args.p99_limit);
    let mut report = table::report(&outcomes, found, args.p99_limit);
    report.note(format!("Sent: {sent}. Photos: {}.", photos.about));
    if args.frames > 1 {
        let frames = f64::from(args.frames);
        let best = outcomes.iter().map(Outcome::goodput).fold(0.0, f64::max);
        report.figure("most clips in a second", best, "clips/s");
        report.figure("that is in frames", best * frames, "frames/s");
        if let [size] = &args.size[..] {
            let pixels = best * frames * size.size.area() as f64;
            report.figure("that is in pixels times frames", pixels / 1e6, "Mpixel/s");
        }
    }
    if let (Some(path), Some(file)) = (&args.csv, csv) {
        csv::write(&outcomes, path, file)?;
    }
    if let Some(path) = &args.picture {
        picture::write(&outcomes, found, &sent, path)?;
        report.note(format!("The picture: {}", path.display()));
    }
    if let Some(why) = ended {
        report.incomplete(format!("the run ended before its time: {why}"));
    }
    Ok(report)
}

fn describe(client: &Client, photos: &Photos) -> String {
    let bytes: usize = photos.photos.iter().map(|photo| photo.bytes.len()).sum();
    let mut sizes: Vec<String> = Vec::new();
    for call in &client.calls {
        let size = call.size.to_string();
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    let model = &client.target.model;
    format!(
        "{} {} a call at {}, {:.0} KiB each, to {} ({} on {})",
        client.calls[0].ids.len(),
        match client.calls[0].asked.frames {
            1 => "photos".to_owned(),
            frames => format!("clips of {frames} photos"),
        },
        sizes.join(", "),
        bytes as f64 / 1024.0 / photos.photos.len().max(1) as f64,
        model.name,
        model.class_name,
        model.device
    )
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("writing {}", path.display()))
}

fn in_flight() -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    clap::value_parser!(u32)
        .range(1..=MOST_IN_FLIGHT)
        .map(|number| number as usize)
}

fn frames() -> impl clap::builder::TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(1..=i64::from(limits::MAX_FRAMES))
}

fn items() -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    clap::value_parser!(u32)
        .range(1..=limits::MAX_ITEMS as i64)
        .map(|number| number as usize)
}

fn seconds(text: &str) -> anyhow::Result<f64> {
    let value: f64 = text.parse().context("write a number")?;
    let fits = (0.0..=MAX_SECONDS).contains(&value);
    ensure!(fits, "must be from 0 to {MAX_SECONDS}");
    Ok(value)
}

fn positive(text: &str) -> anyhow::Result<f64> {
    let value = seconds(text)?;
    ensure!(value >= 0.1, "must be at least 0.1");
    Ok(value)
}

fn posterior(text: &str) -> anyhow::Result<Posterior> {
    match text {
        "mode" => Ok(Posterior::Mode),
        "sample" => Ok(Posterior::Sample),
        "moments" => Ok(Posterior::Moments),
        other => anyhow::bail!("`{other}` is none of mode, sample, moments"),
    }
}

#[cfg(test)]
mod tests;
