//! One rank of a simulated trainer: a process of its own, with a real loader, whose training step is a
//! wait, as it is for the host of a GPU.

use std::{
    io::{self, BufRead, Write},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use preheat_client::{DataLoader, Dataset};

use super::{
    in_loop::InProcess,
    protocol::{Bye, Order, Said, Spec, Step},
};
use crate::{cpu, load::usage::Process};

/// A step takes at least this part of what it should, whatever is drawn.
const SHORTEST: f64 = 0.1;

/// Where the latents of a rank come from.
enum Source {
    Loader(Box<DataLoader>),
    InProcess(Box<InProcess>),
}

/// What a step got.
pub(super) struct Taken {
    /// Held until the step has ended: what becomes of them then is nothing that a step waits for.
    pub(super) latents: Bytes,
    pub(super) epoch: u64,
    pub(super) step: u64,
    pub(super) ids: Vec<u64>,
}

/// Runs a rank: told on stdin, answers on stdout.
///
/// # Errors
/// Where the parent is gone. What goes wrong otherwise is said to the parent.
pub fn run() -> anyhow::Result<()> {
    let mut told = io::stdin().lock().lines();
    let mut tell = io::stdout().lock();
    let spec = told.next().context("a rank is started by its trainer")??;
    let spec: Spec = serde_json::from_str(&spec).context("a rank is started by its trainer")?;
    let ended = train(&spec, &mut told, &mut tell);
    if let Err(error) = &ended {
        say(&mut tell, &Said::Failed(format!("{error:#}")))?;
    }
    Ok(())
}

fn train(
    spec: &Spec,
    told: &mut impl Iterator<Item = io::Result<String>>,
    tell: &mut impl Write,
) -> anyhow::Result<()> {
    let config = spec.config();
    let dataset = Dataset::open(&config, config.bad_samples, &|_| ())?;
    let resident = Process::look(std::process::id()).usage();
    let resident = resident.map_or(0, |usage| usage.resident);
    let mut source = match &spec.in_loop {
        Some(in_loop) => Source::InProcess(InProcess::open(in_loop, config, dataset)?.into()),
        None => Source::Loader(DataLoader::with_dataset(config, dataset.into())?.into()),
    };
    say(tell, &Said::Ready { resident })?;
    let mut steps = Pace::new(spec);
    while order(told)? == Order::Go {
        let (ready, held) = source.depth();
        let asked = Instant::now();
        let taken = source.take()?;
        let begun = Instant::now();
        // To a moment, not for a time: what comes before is part of no step.
        thread::sleep((begun + steps.next()).saturating_duration_since(Instant::now()));
        let computed = begun.elapsed();
        drop(taken.latents);
        let decoding = cpu::of_ended_children();
        let step = Step {
            epoch: taken.epoch,
            step: taken.step,
            ids: taken.ids,
            waited: begun - asked,
            computed,
            cpu: cpu::of_this_process() + decoding,
            decoding,
            ready,
            held,
        };
        say(tell, &Said::Step(step))?;
    }
    say(tell, &Said::Bye(source.bye()))
}

impl Source {
    /// The next batch.
    fn take(&mut self) -> anyhow::Result<Taken> {
        let loader = match self {
            Self::InProcess(model) => return model.take(),
            Self::Loader(loader) => loader,
        };
        // `None` between epochs is not a batch.
        let batch = match loader.next_batch()? {
            Some(batch) => batch,
            None => loader.next_batch()?.context("an epoch without a batch")?,
        };
        let shape = &batch.latents.shape;
        let elements: usize = shape.iter().map(|&side| side as usize).product();
        ensure!(
            shape[0] as usize == batch.samples.len() && batch.latents.data.len() == 4 * elements,
            "epoch {}, step {}: {} bytes for f32 latents of shape {shape:?}",
            batch.epoch,
            batch.step,
            batch.latents.data.len()
        );
        Ok(Taken {
            epoch: batch.epoch,
            step: batch.step,
            ids: batch.ids(),
            latents: batch.latents.data,
        })
    }

    /// Batches that are complete, and bytes held.
    fn depth(&self) -> (u64, u64) {
        match self {
            Self::Loader(loader) => {
                let stats = loader.stats();
                (stats.ready_batches, stats.window_bytes)
            }
            Self::InProcess(_) => (0, 0),
        }
    }

    fn bye(&self) -> Bye {
        match self {
            Self::Loader(loader) => {
                let totals = loader.fleet().totals;
                Bye {
                    retries: totals.retries,
                    hedges: totals.hedges,
                    peak: loader.stats().window_bytes_peak,
                }
            }
            Self::InProcess(_) => Bye::default(),
        }
    }
}

/// How long steps take, one after the other.
struct Pace {
    step: Duration,
    jitter: f64,
    draw: fastrand::Rng,
}

impl Pace {
    fn new(spec: &Spec) -> Self {
        // Ranks differ, runs do not.
        let seed = (spec.trainer << 32) | u64::from(spec.rank);
        Self {
            step: spec.step,
            jitter: spec.jitter,
            draw: fastrand::Rng::with_seed(seed),
        }
    }

    /// The sum of 12 uniform draws is as good as normal, and has no long tail.
    fn next(&mut self) -> Duration {
        let normal = (0..12).map(|_| self.draw.f64()).sum::<f64>() - 6.0;
        self.step
            .mul_f64((1.0 + self.jitter * normal).max(SHORTEST))
    }
}

fn order(told: &mut impl Iterator<Item = io::Result<String>>) -> anyhow::Result<Order> {
    let line = told.next().context("the trainer is gone")??;
    serde_json::from_str(&line).with_context(|| format!("told `{line}`"))
}

fn say(tell: &mut impl Write, said: &Said) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    tell.write_all(&line)?;
    tell.flush().context("the trainer is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_scatter_around_their_mean() {
        let mut pace = Pace {
            step: Duration::from_millis(100),
            jitter: 0.1,
            draw: fastrand::Rng::with_seed(3),
        };
        let times: Vec<f64> = (0..4000).map(|_| pace.next().as_secs_f64()).collect();
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        // Of 4000 draws the mean scatters by 0.16 ms.
        assert!((mean - 0.1).abs() < 8e-4, "{mean}");
        let deviation = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>();
        let deviation = (deviation / times.len() as f64).sqrt();
        assert!((deviation - 0.01).abs() < 1e-3, "{deviation}");
        pace.jitter = 0.0;
        assert_eq!(pace.next(), Duration::from_millis(100));
    }
}
