//! `preheat-bench fleet`: the balancer of `preheat-client` against simulated replicas, beside other
//! policies and the fluid optimum. Nothing is sent and nothing waits: time is a number.

use std::{fs::File, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use crate::{load::typed::Weighted, report::Report};

mod bounds;
mod clock;
mod live;
mod machine;
mod picture;
mod policy;
mod scene;
mod table;
mod tally;
mod trainer;
mod typed;
mod world;

use live::Line;
use policy::Kind;
use scene::{Demand, Scene, Trouble};
use table::Ran;
use typed::{Speeds, Wave};
#[cfg(test)]
use world::CATCH_UP;
use world::{Outcome, World};

/// Name of the bound that no policy exceeds.
const FLUID: &str = "fluid optimum";
/// Replicas that can be simulated, and trainers.
const MOST_REPLICAS: i64 = 1_000_000;
const MOST_TRAINERS: i64 = 10_000;
/// Requests of a closed loop for each replica, at most.
const MOST_WAITING: i64 = 10_000;
/// Batches that loaders may ask for in advance, at most.
const MOST_AHEAD: i64 = 10_000;
/// What the scenarios ask for where nothing else is said.
const LOAD: f64 = 0.8;
const STARVING_LOAD: f64 = 0.95;
const STALL_SHARE: f64 = 0.05;
const TRAINERS: usize = 4;
/// Loaders have this many times the work of their window to get ahead, before the last one begins.
const FILLED: f64 = 2.0;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// A closed loop: more is always asked for than there is.
    Saturation,
    /// An open loop at --load.
    Loaded,
    /// The same while replicas stand still at random.
    Stalling,
    /// Loaders far ahead, and one that begins when the fleet is nearly full.
    Starving,
}

/// Options of `preheat-bench fleet`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to simulate.
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        default_value = "saturation,loaded,stalling"
    )]
    scenario: Vec<Scenario>,
    /// Policies to compare; all unless given.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    policy: Vec<Kind>,
    /// Replicas.
    #[arg(long, value_name = "N", default_value = "200", value_parser = count(MOST_REPLICAS))]
    replicas: usize,
    /// Their speeds, mixed in equal numbers.
    #[arg(long, value_name = "A:B:...", default_value = "1:2:5:10")]
    speeds: Speeds,
    /// What speed 1 is, in millions of output pixels a second.
    #[arg(long, value_name = "MP/S", default_value = "2.6", value_parser = typed::amount)]
    megapixels_per_second: f64,
    /// Noise of what a request takes: sigma of its logarithm.
    #[arg(long, value_name = "SIGMA", default_value = "0.2", value_parser = typed::sigma)]
    noise: f64,
    /// Round trip between balancer and replicas, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "1", value_parser = typed::trip)]
    rtt_ms: f64,
    /// At any time this share of the replicas stands still, calls inside and all. Unless given, 0.05
    /// in the scenario `stalling` and none in the others.
    #[arg(long, value_name = "SHARE", value_parser = typed::lesser_part)]
    stall_share: Option<f64>,
    /// For how long one stands still, on average.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = typed::period)]
    stall_seconds: f64,
    /// A replica ends every so many seconds on average, with the calls that it has.
    #[arg(long, value_name = "SECONDS", value_parser = typed::period)]
    crash_every: Option<f64>,
    /// How long a replica that has ended is away.
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = typed::period)]
    restart_seconds: f64,
    /// That share of the replicas ends at that second.
    #[arg(long, value_name = "SHARE@SECOND,...", value_delimiter = ',')]
    wave: Vec<Wave>,
    /// This share of the replicas reports ten times its speed and an empty queue.
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = typed::part)]
    lying: f64,
    /// Trainers that share the load [default: 4; 2 in the scenario `starving`].
    #[arg(long, value_name = "N", value_parser = count(MOST_TRAINERS))]
    trainers: Option<usize>,
    /// Requests arrive in step, not at random times.
    #[arg(long)]
    regular: bool,
    /// Output sizes: sides of squares or WIDTHxHEIGHT in pixels, with weights: 512:3,1024x768:1.
    #[arg(
        long,
        value_name = "SIZE,...",
        value_delimiter = ',',
        default_value = "256,512,1024,2048"
    )]
    sizes: Vec<Weighted>,
    /// An answer is needed so long after its request was made.
    #[arg(long, value_name = "SECONDS", default_value = "4", value_parser = typed::seconds)]
    slack: f64,
    /// Offered load, of what all replicas can do together [default: 0.8; 0.95 in `starving`].
    #[arg(long, value_name = "SHARE", value_parser = typed::load)]
    load: Option<f64>,
    /// Requests of a closed loop, for each replica.
    #[arg(long, value_name = "N", default_value = "32", value_parser = count(MOST_WAITING))]
    waiting: usize,
    /// What a step takes a trainer with a loader, about: a batch has a whole number of requests.
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = typed::period)]
    step_seconds: f64,
    /// Batches that a loader asks for in advance.
    #[arg(long, value_name = "N", default_value = "32", value_parser = count(MOST_AHEAD))]
    look_ahead: usize,
    /// Simulated seconds that are measured.
    #[arg(long, default_value = "60", value_parser = typed::period)]
    seconds: f64,
    /// Seconds before that are not, and after. In `starving` at least twice what --look-ahead holds.
    #[arg(long, default_value = "10", value_parser = typed::seconds)]
    warm_up: f64,
    /// Seed of everything that is random. Every policy gets the same requests, the same noise and
    /// the same mishaps.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rng_seed: u64,
    /// Draw completion times and the use of replicas, as PNG.
    #[arg(long, value_name = "FILE.png")]
    picture: Option<PathBuf>,
}

impl Args {
    fn scene(&self, scenario: Scenario) -> Scene {
        let starving = scenario == Scenario::Starving;
        let stall_share = self.stall_share.unwrap_or(match scenario {
            Scenario::Stalling => STALL_SHARE,
            _ => 0.0,
        });
        let pixels = |one: &Weighted| u64::from(one.size.width) * u64::from(one.size.height);
        Scene {
            name: match scenario {
                Scenario::Saturation => "saturation",
                Scenario::Loaded => "loaded",
                Scenario::Stalling => "stalling",
                Scenario::Starving => "starving",
            },
            speeds: self.speeds.0.clone(),
            unit: self.megapixels_per_second * 1e6,
            replicas: self.replicas,
            trouble: Trouble {
                stall_share,
                stall_seconds: self.stall_seconds,
                crash_every: self.crash_every,
                restart: Duration::from_secs_f64(self.restart_seconds),
                waves: self.wave.clone(),
                lying: self.lying,
            },
            noise: self.noise,
            travel: Duration::from_secs_f64(self.rtt_ms / 2e3),
            sizes: self
                .sizes
                .iter()
                .map(|one| (pixels(one), one.weight))
                .collect(),
            demand: self.demand(scenario),
            trainers: self.trainers.unwrap_or(if starving { 2 } else { TRAINERS }),
            warm_up: self.warm_up(starving),
            seconds: Duration::from_secs_f64(self.seconds),
            seed: self.rng_seed,
        }
    }

    fn warm_up(&self, starving: bool) -> Duration {
        // Who is to be far ahead needs the time to get there.
        let filled = FILLED * self.look_ahead as f64 * self.step_seconds;
        let least = if starving { filled } else { 0.0 };
        Duration::from_secs_f64(self.warm_up.max(least))
    }

    fn demand(&self, scenario: Scenario) -> Demand {
        let slack = Duration::from_secs_f64(self.slack);
        match scenario {
            Scenario::Saturation => Demand::Closed {
                waiting: self.waiting * self.replicas,
                slack,
            },
            Scenario::Loaded | Scenario::Stalling => Demand::Open {
                load: self.load.unwrap_or(LOAD),
                regular: self.regular,
                slack,
            },
            Scenario::Starving => Demand::Loaders {
                load: self.load.unwrap_or(STARVING_LOAD),
                step: Duration::from_secs_f64(self.step_seconds),
                look_ahead: self.look_ahead as u64,
            },
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        if let Some(path) = &self.picture {
            let png = path
                .extension()
                .is_some_and(|text| text.eq_ignore_ascii_case("png"));
            ensure!(png, "--picture is {}, must end in .png", path.display());
            // Found out now, not after minutes of simulating.
            File::create(path).with_context(|| format!("writing {}", path.display()))?;
        }
        ensure!(
            self.replicas >= self.speeds.0.len(),
            "--replicas {} are fewer than the {} of --speeds",
            self.replicas,
            self.speeds.0.len()
        );
        // What is known of a replica must not arrive after it is back.
        ensure!(
            self.restart_seconds * 1e3 > 2.0 * self.rtt_ms,
            "--restart-seconds {} is less than two round trips of --rtt-ms {}",
            self.restart_seconds,
            self.rtt_ms
        );
        Ok(())
    }
}

/// Runs every policy through every scenario.
///
/// # Errors
/// Where options contradict each other, or a file cannot be written. A request that got lost is
/// reported as an incomplete run.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    args.check()?;
    let mut report = Report::default();
    let mut ran: Vec<Ran> = Vec::new();
    for &scenario in &args.scenario {
        let scene = args.scene(scenario);
        let outcomes = compare(&scene, &args.policy);
        ran.push((scene, outcomes));
    }
    for one in &ran {
        table::add(&mut report, one);
    }
    bounds::add(&mut report, &ran);
    notes(&mut report);
    if let Some(path) = &args.picture {
        picture::write(&ran, path)?;
        report.note(format!("The picture: {}", path.display()));
    }
    for (scene, outcomes) in &ran {
        for outcome in outcomes {
            let (lost, wrong) = (outcome.lost(), outcome.tally.all.wrong);
            if lost + wrong > 0 {
                let policy = &outcome.policy;
                report.incomplete(format!(
                    "{}: {policy} lost {lost} requests, and did {wrong} things to requests that were over",
                    scene.name
                ));
            }
        }
    }
    Ok(report)
}

/// Each policy, and then the fluid optimum.
fn compare(scene: &Scene, policies: &[Kind]) -> Vec<Outcome> {
    let policies = if policies.is_empty() {
        Kind::value_variants()
    } else {
        policies
    };
    let mut outcomes: Vec<Outcome> = policies
        .iter()
        .map(|&kind| simulate(scene, kind, &kind.name()))
        .collect();
    let mut fluid = simulate(&scene.as_one(), Kind::RoundRobin, FLUID);
    // What stands still or is away can do nothing, whoever decides.
    let able = outcomes.first().map_or(1.0, |outcome| outcome.able);
    let less = match scene.demand {
        Demand::Closed { .. } => able / fluid.throughput,
        _ => (able / fluid.throughput).min(1.0),
    };
    fluid.throughput *= less;
    fluid.megapixels_per_second *= less;
    outcomes.push(fluid);
    outcomes
}

fn simulate(scene: &Scene, kind: Kind, name: &str) -> Outcome {
    let line = Line::new(scene, name);
    let mut outcome = World::new(scene, kind).run(|now| line.show(now));
    name.clone_into(&mut outcome.policy);
    line.finish(&outcome);
    outcome
}

fn notes(report: &mut Report) {
    report.note(
        "Completion runs from the request to its answer. The fluid optimum is no policy: the whole \
         fleet as one replica that nothing befalls; its throughput counts what was there and did \
         not stand still.",
    );
    report.note(
        "All policies but ours bind at arrival, as one balancer that sees all trainers; they know at \
         once which replicas are away, try lost calls elsewhere, and never hedge.",
    );
    report.note(
        "us a request: time of this machine inside the policy, for a request from its submission to \
         its end.",
    );
}

fn count(most: i64) -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    clap::value_parser!(u32)
        .range(1..=most)
        .map(|number| number as usize)
}

#[cfg(test)]
mod tests;
