//! The steps of a run, one after the other.

use std::{process, sync::Arc, time::Duration};

use anyhow::ensure;
use tokio::{
    signal::ctrl_c,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    Args,
    client::Client,
    drive::{Pace, Step, Stop, drive},
    knee::{Ramp, Rule},
    live::Line,
    outcome::{Kind, Outcome, latency},
    tally::{Tally, milliseconds},
    typed::Rate,
    usage::Process,
};
use crate::cpu;

/// How often progress is shown and the time series gets a line.
const SECOND: Duration = Duration::from_secs(1);
/// For so long connections may fail with no answer between them: a replica that restarts is back by
/// then, or is not coming.
const SILENCE: Duration = Duration::from_secs(5);
/// Calls under way in the first closed loop that looks for the capacity; each next has twice as many.
const FIRST_PROBE: usize = 4;
/// When twice the calls bring less than this more, the capacity is found.
const GAIN: f64 = 1.05;
/// The exit code of a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// A run.
pub(super) struct Session<'a> {
    args: &'a Args,
    client: Arc<Client>,
    /// Of the replica that was started for it.
    process: Option<u32>,
    stop: Stop,
    pub(super) outcomes: Vec<Outcome>,
}

impl<'a> Session<'a> {
    /// A run against `client`, whose replica is `process`, where it was started here.
    pub(super) fn new(args: &'a Args, client: Client, process: Option<u32>) -> Self {
        let stop = Stop::new();
        let interrupted = stop.clone();
        tokio::spawn(async move {
            if ctrl_c().await.is_ok() {
                interrupted.now("it was interrupted");
            }
            if ctrl_c().await.is_ok() {
                process::exit(INTERRUPTED);
            }
        });
        Self {
            args,
            client: Arc::new(client),
            process,
            stop,
            outcomes: Vec::new(),
        }
    }

    /// Everything that was asked for; why it ended before that, if it did.
    ///
    /// # Errors
    /// Where no capacity was found, which later steps need.
    pub(super) async fn run(&mut self) -> anyhow::Result<Option<String>> {
        let Args { closed, open, .. } = self.args;
        for &slots in closed {
            let name = format!("closed {slots}");
            self.step(name, Kind::Closed, Pace::Closed(slots), self.args.times())
                .await;
        }
        let ramp = self.args.ramp || (closed.is_empty() && open.is_empty());
        let relative = |rate: &Rate| matches!(rate, Rate::OfCapacity(_));
        let mut capacity = 0.0;
        if ramp || open.iter().any(relative) {
            capacity = self.capacity().await;
            if self.stop.reason().is_none() {
                ensure!(
                    capacity > 0.0,
                    "nothing was answered whole while looking for the capacity: {}",
                    self.complaints()
                );
            }
        }
        for rate in open {
            self.open(format!("open {rate}"), rate.images(capacity))
                .await;
        }
        let mut ramp = ramp.then(|| {
            let limit = self.args.p99_limit;
            Ramp::new(Rule { limit, capacity })
        });
        while let Some((ramp, rate)) = ramp
            .as_mut()
            .and_then(|ramp| ramp.next().map(|r| (ramp, r)))
        {
            self.open(format!("ramp {rate:.1}"), rate).await;
            match (self.stop.reason(), self.outcomes.last()) {
                (None, Some(outcome)) => ramp.saw(rate, outcome.point()),
                _ => break,
            }
        }
        Ok(self.stop.reason())
    }

    /// Closed loops of more and more calls, until more calls bring no more images.
    async fn capacity(&mut self) -> f64 {
        let [warmup, time] = self.args.times();
        let mut best = 0.0;
        let mut slots = FIRST_PROBE.min(self.args.in_flight);
        while self.stop.reason().is_none() {
            let name = format!("capacity {slots}");
            let half = [warmup / 2, time / 2];
            self.step(name, Kind::Probe, Pace::Closed(slots), half)
                .await;
            let goodput = self.outcomes.last().map_or(0.0, Outcome::goodput);
            let enough = goodput < GAIN * best || slots >= self.args.in_flight;
            best = goodput.max(best);
            if enough {
                break;
            }
            slots = (2 * slots).min(self.args.in_flight);
        }
        best
    }

    /// An open loop at `images` a second.
    async fn open(&mut self, name: String, images: f64) {
        let pace = Pace::Open {
            rate: images / self.args.items as f64,
            seed: self.args.rng_seed,
            bound: self.args.in_flight,
        };
        self.step(name, Kind::Open(images), pace, self.args.times())
            .await;
    }

    /// One step, unless the run has ended.
    async fn step(&mut self, name: String, kind: Kind, pace: Pace, [warmup, time]: [Duration; 2]) {
        if self.stop.reason().is_some() {
            return;
        }
        let step = Step {
            pace,
            warmup,
            time,
            deadline: self.args.timeout(),
        };
        let items = self.args.items;
        let line = Line::new(&name, time);
        let before = self.process.and_then(|id| Process::look(id).usage());
        let (begin, cpu) = (Instant::now(), cpu::of_this_process());
        let tally = Arc::new(Tally::new(step.window(), items, step.deadline));
        tokio::select! {
            () = drive(&self.client, step, &tally, &self.stop) => {}
            () = self.watch(&tally, &line) => {}
        }
        let took = begin.elapsed().as_secs_f64().max(1e-3);
        let cores = (cpu::of_this_process() - cpu).as_secs_f64() / took;
        let time = tally.window.over(Instant::now());
        let state = tally.so_far();
        let outcome = Outcome {
            name,
            kind,
            items,
            time,
            latency: latency(&state),
            lag: milliseconds(&state.lag, 0.99).unwrap_or_default(),
            pushback: milliseconds(&state.pushback, 0.5),
            counts: state.counts,
            most_in_flight: state.most_in_flight,
            complaints: state.complaints,
            seconds: state.seconds,
            cores,
            before,
        };
        line.finish(&outcome);
        self.outcomes.push(outcome);
    }

    /// Shows progress and fills the time series, second by second; never ends by itself, but may stop
    /// the run.
    async fn watch(&self, tally: &Tally, line: &Line) {
        let begin = Instant::now();
        let mut pace = interval_at(begin + SECOND, SECOND);
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let now = pace.tick().await;
            let process = self.process.map(Process::look);
            let since = now
                .saturating_duration_since(tally.window.begin)
                .as_secs_f64();
            let until = tally
                .window
                .begin
                .saturating_duration_since(now)
                .as_secs_f64();
            tally.second(since - until, process.and_then(Process::usage));
            line.show(tally, self.args.items);
            if process == Some(Process::Ended) {
                self.stop
                    .now("the replica that was started for it has ended");
            } else if tally.silent() >= SILENCE {
                let why = "connections fail, and for 5 s nothing was answered";
                self.stop.now(format!("{}: {why}", self.client.target.uri));
            }
        }
    }

    fn complaints(&self) -> String {
        let mut complaints = self.outcomes.iter().flat_map(|step| step.complaints.keys());
        let first = complaints.next().cloned();
        first.unwrap_or_else(|| "every call was refused or too late; raise --timeout".into())
    }
}
