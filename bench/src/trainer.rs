//! `preheat-bench trainer`: what a fleet and the loader are to a training run. Simulated trainers, each
//! rank a process of its own with a real loader, whose steps are waits of a given length; how long they
//! stand still for their data, and what that costs the host.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use preheat_client::{BadSamples, Dataset, config};

use crate::{report::Report, secrets::Secrets};

mod crew;
mod dataset;
mod film;
mod fleet;
mod in_loop;
mod log;
mod order;
mod picture;
mod protocol;
mod rank;
mod table;
mod tally;
#[cfg(test)]
mod tests;
mod typed;

pub use rank::run as run_rank;

use crew::{Phase, Ran};
use dataset::Samples;
use film::Film;
use fleet::Fleet;
use order::Expected;
use protocol::{InLoop, Spec};
use tally::Pace;
use typed::{MAX_SECONDS, Stop};

/// Processes that are started, at most: of all the ways to overload a machine, forgetting this one
/// overloads one's own.
const MOST: i64 = 256;
/// How many times more batches the window may hold while the capacity is measured.
const DEEPER: u32 = 8;

/// Options of `preheat-bench trainer`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("to").required(true).args(["endpoint", "start"])))]
pub struct Args {
    /// Replicas or a balancer that run already, as a loader takes them: http://host:port, several
    /// separated by commas, dns+http://name:port, file:path.
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Start a replica with this model and stop it afterwards: a directory in the diffusers layout,
    /// `builtin:tiny`, or `synthetic[:key=value,...]`. May be repeated, for a fleet of mixed speed.
    #[arg(long, value_name = "SOURCE")]
    start: Vec<String>,
    /// So many replicas of each --start.
    #[arg(long, value_name = "N", default_value = "1", value_parser = processes())]
    replicas: usize,
    /// Put a balancer before the replicas that are started.
    #[arg(long, conflicts_with = "endpoint")]
    balancer: bool,
    /// An option of the replicas that are started, as `preheat-server` takes it; may be repeated.
    #[arg(
        long,
        value_name = "OPTION",
        allow_hyphen_values = true,
        conflicts_with = "endpoint"
    )]
    replica_option: Vec<String>,
    /// Which of the endpoint's models.
    #[arg(long, value_name = "NAME", default_value = fleet::MODEL)]
    model: String,
    #[command(flatten)]
    secrets: Secrets,
    /// Train on this folder of images, or with --frames of videos, instead of ones made for the run.
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,
    /// Photos that are made: real ones, scaled and saved again.
    #[arg(long, value_name = "N", default_value = "2000", conflicts_with = "dataset",
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    photos: u32,
    /// About how large they are.
    #[arg(long, value_name = "KIB", default_value = "49", conflicts_with = "dataset",
        value_parser = clap::value_parser!(u32).range(4..=16 * 1024))]
    photo_kib: u32,
    #[command(flatten)]
    film: Film,
    /// Trainers that share the fleet, each with a run of its own.
    #[arg(long, value_name = "N", default_value = "1", value_parser = processes())]
    trainers: usize,
    /// Ranks of each trainer that are simulated, a process each.
    #[arg(long, value_name = "N", default_value = "2", value_parser = processes())]
    ranks: usize,
    /// Ranks that each trainer has [default: as many as are simulated]. With more than are simulated,
    /// this machine does the work of some of the hosts.
    #[arg(long, value_name = "N")]
    world_size: Option<u32>,
    /// How long a training step computes, in milliseconds; with several, the trainers take turns.
    #[arg(long, value_name = "MS,...", value_delimiter = ',', default_value = "200",
        value_parser = milliseconds)]
    step_ms: Vec<f64>,
    /// Standard deviation of that, as a share: each rank draws its own, and all wait for the slowest.
    #[arg(long, value_name = "SHARE", default_value = "0.02", value_parser = share)]
    jitter: f64,
    /// Choose the step instead so that the trainers together take this share of what the endpoint can
    /// do, which trainers without steps measure first.
    #[arg(long, value_name = "SHARE", conflicts_with = "step_ms", value_parser = load)]
    load: Option<f64>,
    /// Seconds in which that is measured.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    capacity_seconds: f64,
    /// Samples of one step of a trainer, over all its ranks.
    #[arg(long, value_name = "N", default_value_t = config::DEFAULT_GLOBAL_BATCH)]
    global_batch: u32,
    /// Side of a square of as many pixels as every output image has at most.
    #[arg(long, value_name = "PIXELS", default_value = "256",
        value_parser = clap::value_parser!(u32).range(64..=4096))]
    size: u32,
    /// Bytes of files and latents that each rank's window may hold.
    #[arg(long, value_name = "BYTES", default_value_t = config::DEFAULT_WINDOW_BYTES)]
    window_bytes: u64,
    /// Batches that it may hold.
    #[arg(long, value_name = "N", default_value_t = config::DEFAULT_BATCHES_AHEAD)]
    batches_ahead: u32,
    /// Seconds that are measured.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    seconds: f64,
    /// Measure so many steps of each trainer instead.
    #[arg(long, value_name = "N", conflicts_with = "seconds",
        value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Seconds before, of which only the waits are shown: the window is filled in them, and a fleet
    /// that is 85 % busy has 15 % left for that.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds_or_none)]
    warm_up: f64,
    /// Part of the batches that synthetic replicas take longer for: 0.05.
    #[arg(long, value_name = "SHARE", conflicts_with = "endpoint", value_parser = share)]
    slow_share: Option<f64>,
    /// How many times longer.
    #[arg(long, value_name = "N", default_value = "10",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    slow_factor: u32,
    /// Stop all replicas at once (SIGSTOP) so many seconds after the warm-up, for so many seconds:
    /// 20,30.
    #[arg(long, value_name = "AT,FOR", conflicts_with = "endpoint")]
    stop_fleet: Option<Stop>,
    /// Say more of what the ranks' processor time is.
    #[arg(long)]
    cpu: bool,
    /// Then train without a fleet: each rank encodes its batches itself, between its steps, with this
    /// model: a directory in the diffusers layout, `builtin:tiny`, or `synthetic[:key=value,...]`.
    #[arg(long, value_name = "SOURCE")]
    vae_in_loop: Option<String>,
    /// Where it computes: `auto`, `cpu`, `cuda:N` or `vulkan:N`.
    #[arg(
        long,
        value_name = "DEVICE",
        default_value = "cpu",
        requires = "vae_in_loop"
    )]
    vae_device: String,
    /// Draw how full the windows were and when trainers stood still, as PNG.
    #[arg(long, value_name = "FILE.png")]
    picture: Option<PathBuf>,
}

/// Runs the trainers.
///
/// # Errors
/// Where a replica or a rank fails, or a rank gets anything but what the plan says.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let in_loop = args.vae_in_loop.as_ref().map(|source| InLoop {
        source: source.clone(),
        device: args.vae_device.clone(),
    });
    // What cannot be opened later is better said now.
    in_loop.as_ref().map(in_loop::open_model).transpose()?;
    args.specs("", Path::new(""))[0].config().check()?;
    ensure!(
        in_loop.is_none() || args.film.frames.is_empty(),
        "--vae-in-loop encodes images: leave out --frames"
    );
    let samples = Samples::open(args)?;
    let fleet = Fleet::start(args)?;
    let mut specs = args.specs(fleet.endpoint(), &samples.folder);
    let dataset = Dataset::open(&specs[0].config(), BadSamples::Fail, &|_| ())?;
    println!(
        "{} trainers of {} ranks, {}, {}",
        args.trainers,
        args.ranks,
        samples.about,
        fleet.about()
    );
    let mut report = Report::default();
    let mut delivered = 0;
    let mut phase = |specs: &[Spec], phase: &Phase| -> anyhow::Result<Ran> {
        let mut expected = expected(specs, &dataset)?;
        let ran = crew::run(specs, &mut expected, &fleet, phase)?;
        delivered += expected.iter().map(|one| one.samples).sum::<u64>();
        Ok(ran)
    };
    if let Some(load) = args.load {
        let capacity = capacity(args, &specs, &mut phase)?;
        report.figure("capacity", capacity, args.film.unit().per_second);
        let step = f64::from(args.global_batch) * args.simulated() * args.trainers as f64;
        let step = Duration::try_from_secs_f64(step / (load * capacity));
        let step = step.context("the endpoint encodes nothing")?;
        specs.iter_mut().for_each(|spec| spec.step = step);
    }
    let ran = phase(&specs, &args.phase("training", args.stop_fleet))?;
    let alone = in_loop.map(|in_loop| {
        let mut specs = specs.clone();
        for spec in &mut specs {
            spec.in_loop = Some(in_loop.clone());
        }
        phase(&specs, &args.phase("the VAE in the loop", None))
    });
    let alone = alone.transpose()?;
    let title = format!("{}; {}", samples.about, fleet.about());
    show(&mut report, args, &title, (&specs, &ran, alone.as_ref()));
    report.figure("delivered in the plan's order", delivered as f64, "samples");
    if let Some(path) = &args.picture {
        picture::write(&ran, path)?;
    }
    Ok(report)
}

/// What the endpoint can do: trainers that take all that they get.
fn capacity(
    args: &Args,
    specs: &[Spec],
    phase: &mut impl FnMut(&[Spec], &Phase) -> anyhow::Result<Ran>,
) -> anyhow::Result<f64> {
    let mut specs = specs.to_vec();
    for spec in &mut specs {
        spec.step = Duration::ZERO;
        // A slow answer holds up the batches behind it: a window that they fill would hold up the fleet.
        let ahead = spec.batches_ahead.saturating_mul(DEEPER);
        spec.batches_ahead = ahead.min(config::MAX_BATCHES_AHEAD);
    }
    let seconds = Phase {
        seconds: Duration::from_secs_f64(args.capacity_seconds),
        steps: None,
        ..args.phase("measuring the capacity", None)
    };
    let ran = phase(&specs, &seconds)?;
    let capacity = ran.logs.iter().map(tally::encoded_per_second).sum();
    ensure!(
        capacity > 0.0,
        "too few steps ended in {} s: raise --capacity-seconds",
        args.capacity_seconds
    );
    Ok(capacity)
}

fn expected(specs: &[Spec], dataset: &Dataset) -> anyhow::Result<Vec<Expected>> {
    let first = specs.iter().filter(|spec| spec.rank == 0);
    first.map(|spec| Expected::new(spec, dataset)).collect()
}

/// Tables and figures.
fn show(
    report: &mut Report,
    args: &Args,
    title: &str,
    (specs, ran, alone): (&[Spec], &Ran, Option<&Ran>),
) {
    let of = |trainer: usize| &specs[trainer * args.ranks];
    let mut rows = Vec::new();
    for (number, log) in ran.logs.iter().enumerate() {
        rows.push((number.to_string(), of(number), log));
    }
    for (number, log) in alone.iter().flat_map(|ran| ran.logs.iter().enumerate()) {
        rows.push((format!("{number}, VAE in the loop"), of(number), log));
    }
    table::paces(report, &args.film.unit(), (title, &rows));
    table::processes(report, args, specs, ran);
    table::rides(report, ran);
    if let Some(load) = args.load {
        report.figure("load", load, "of the capacity");
    }
    let worst = |ran: &Ran| {
        let stalls = ran.logs.iter().map(|log| 100.0 * Pace::of(log).stall);
        stalls.fold(0.0, f64::max)
    };
    report.figure("stall of the worst trainer", worst(ran), "%");
    if let Some(alone) = alone {
        report.figure("the same with the VAE in the loop", worst(alone), "%");
    }
    let ranks = || ran.logs.iter().flat_map(|log| &log.ranks);
    let images: u64 = ranks().map(log::RankLog::came).sum();
    let cpu: Duration = ranks()
        .map(|rank| rank.cpu[1].saturating_sub(rank.cpu[0]))
        .sum();
    let each = tally::ratio(1e3 * cpu.as_secs_f64(), images as f64);
    report.figure("host CPU", each, args.film.unit().milliseconds);
    if !args.film.frames.is_empty() {
        let decoding: Duration = ranks()
            .map(|rank| rank.decoding[1].saturating_sub(rank.decoding[0]))
            .sum();
        let each = tally::ratio(1e3 * decoding.as_secs_f64(), images as f64);
        report.figure(
            "of it FFmpeg's processes",
            each,
            args.film.unit().milliseconds,
        );
    }
}

impl Args {
    /// Every rank of every trainer.
    fn specs(&self, endpoint: &str, folder: &Path) -> Vec<Spec> {
        let ranks = (0..self.trainers).flat_map(|one| (0..self.ranks).map(move |rank| (one, rank)));
        let spec = |(trainer, rank): (usize, usize)| Spec {
            dataset: folder.to_owned(),
            // Of photos that are made and go away, nothing is left behind.
            index: self.dataset.is_none().then(|| folder.join(".index")),
            endpoint: endpoint.to_owned(),
            secrets: self.secrets.clone(),
            model: self.model.clone(),
            trainer: trainer as u64,
            rank: rank as u32,
            world_size: self.world_size.unwrap_or(self.ranks as u32),
            global_batch: self.global_batch,
            target_area: u64::from(self.size).pow(2),
            frames: self.film.frames.clone(),
            window_bytes: self.window_bytes,
            batches_ahead: self.batches_ahead,
            step: Duration::from_secs_f64(self.step_ms[trainer % self.step_ms.len()] / 1e3),
            jitter: self.jitter,
            in_loop: None,
        };
        ranks.map(spec).collect()
    }

    fn phase(&self, what: &'static str, stop: Option<Stop>) -> Phase {
        let [warm_up, seconds] = [self.warm_up, self.seconds].map(Duration::from_secs_f64);
        Phase {
            what,
            warm_up,
            seconds,
            steps: self.steps,
            stop,
        }
    }

    /// The part of each trainer that is simulated.
    fn simulated(&self) -> f64 {
        self.ranks as f64 / f64::from(self.world_size.unwrap_or(self.ranks as u32).max(1))
    }
}

fn processes() -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    clap::value_parser!(u32).range(1..=MOST).map(|n| n as usize)
}

fn within(text: &str, least: f64, most: f64) -> anyhow::Result<f64> {
    let value: f64 = text.parse().context("write a number")?;
    if !(least..=most).contains(&value) {
        bail!("must be {least} to {most}");
    }
    Ok(value)
}

fn milliseconds(text: &str) -> anyhow::Result<f64> {
    within(text, 0.0, 1e3 * MAX_SECONDS)
}

fn seconds(text: &str) -> anyhow::Result<f64> {
    within(text, 0.1, MAX_SECONDS)
}

fn seconds_or_none(text: &str) -> anyhow::Result<f64> {
    within(text, 0.0, MAX_SECONDS)
}

fn share(text: &str) -> anyhow::Result<f64> {
    within(text, 0.0, 1.0)
}

/// Up to twice what there is: how a run fares that is too fast is worth a look too.
fn load(text: &str) -> anyhow::Result<f64> {
    within(text, 0.01, 2.0)
}
