//! `preheat-bench wire`: what it costs to move messages, as a replica and a loader move them, beside
//! the least that the system can do (the same bytes through plain sockets) and beside tonic as it
//! comes. In turn, in one process, so that one clock counts the CPU of both ends.

use std::time::{Duration, Instant};

use anyhow::ensure;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cpu,
    report::{Report, median},
};

mod grpc;
mod hop;
mod raw;

use grpc::Grpc;
use raw::Raw;

/// The message size that the notes are about.
const HEADLINE: usize = 4 << 20;

/// Largest message that can be measured: a call may carry 64 MiB, with its metadata.
const LARGEST: usize = 32 << 20;

/// Options of `preheat-bench wire`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Bytes of a message, in KiB.
    #[arg(long, value_delimiter = ',', default_value = "64,256,1024,4096,16384")]
    size: Vec<usize>,
    /// Bytes of a payload, in KiB: a request has as many as fill it. A large photo, by default.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    payload: u32,
    /// Messages under way at once.
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    /// Connections of ours, at most.
    #[arg(long, default_value_t = preheat_client::wire::DEFAULT_CONNECTIONS)]
    connections: u32,
    /// How often to measure everything; medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds of one measurement.
    #[arg(long, default_value_t = 400)]
    millis: u64,
    /// Measure only these ways: raw, ours, tonic; and hop, ours through a balancer in a process of
    /// its own.
    #[arg(long, value_delimiter = ',', default_value = "raw,ours,tonic")]
    only: Vec<String>,
}

/// What a call carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    /// Bytes of its request.
    up: usize,
    /// Bytes of each payload of the request, at most.
    payload: usize,
    /// Bytes of its answer.
    down: usize,
}

/// A way to move messages. Both ends live in this process and stay connected.
trait Way {
    /// Sends one call after the other from every slot until `time` is over; how many were answered.
    fn run(&mut self, load: Load, time: Duration) -> anyhow::Result<u64>;

    /// How long so many calls take, one after the other; none where that says nothing.
    fn latency(&mut self, _load: Load, _calls: usize) -> anyhow::Result<Vec<Duration>> {
        Ok(Vec::new())
    }

    /// CPU time of a process beside this one, if it has one.
    fn elsewhere(&self) -> Option<Duration> {
        None
    }
}

/// One combination, and what was measured of it, one value a round.
struct Case {
    way: usize,
    load: Load,
    /// Gigabytes a second.
    rate: Vec<f64>,
    /// CPU seconds a gigabyte.
    cpu: Vec<f64>,
    /// Those of a process beside this one.
    elsewhere: Vec<f64>,
}

/// Measures every combination once a round, so that a noisy minute hurts all alike.
///
/// # Errors
/// Where a socket or a call fails.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let sizes: Vec<usize> = args.size.iter().map(|kib| kib << 10).collect();
    ensure!(
        sizes.iter().all(|&size| size > 0 && size <= LARGEST),
        "--size takes 1 to {} KiB",
        LARGEST >> 10
    );
    ensure!(
        args.in_flight > 0 && args.rounds > 0 && !sizes.is_empty(),
        "nothing to measure: give a size, a message in flight, a round"
    );
    let mut ways = ways(args)?;
    let mut cases: Vec<Case> = Vec::new();
    for &size in &sizes {
        for (up, down) in [(size, 0), (0, size)] {
            let payload = (args.payload as usize) << 10;
            let load = Load { up, payload, down };
            cases.extend((0..ways.len()).map(|way| Case {
                way,
                load,
                rate: Vec::new(),
                cpu: Vec::new(),
                elsewhere: Vec::new(),
            }));
        }
    }
    let style = ProgressStyle::with_template("{prefix} {bar:32} {pos}/{len}  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let progress = ProgressBar::new(((args.rounds + 1) * cases.len()) as u64)
        .with_style(style)
        .with_prefix("wire");
    let time = Duration::from_millis(args.millis);
    // The first round warms connections, windows and caches, and is thrown away.
    for round in 0..=args.rounds {
        for case in &mut cases {
            let way = &mut ways[case.way].1;
            let before = way.elsewhere().unwrap_or_default();
            let (cpu, start) = (cpu::of_this_process(), Instant::now());
            let calls = way.run(case.load, time)?;
            let (took, cpu) = (start.elapsed(), cpu::of_this_process() - cpu);
            let elsewhere = way.elsewhere().unwrap_or_default() - before;
            progress.inc(1);
            if round > 0 {
                let gigabytes = (calls * (case.load.up + case.load.down) as u64) as f64 / 1e9;
                case.rate.push(gigabytes / took.as_secs_f64());
                let each = |cpu: Duration| cpu.as_secs_f64() / gigabytes.max(1e-9);
                case.cpu.push(each(cpu + elsewhere));
                case.elsewhere.push(each(elsewhere));
            }
        }
    }
    progress.finish_and_clear();
    let names: Vec<&str> = ways.iter().map(|(name, _)| *name).collect();
    let mut report = report(&names, &cases);
    hop::report(&mut ways, &cases, args.rounds, &mut report)?;
    Ok(report)
}

/// The ways, by name.
type Ways = Vec<(&'static str, Box<dyn Way>)>;

fn ways(args: &Args) -> anyhow::Result<Ways> {
    let mut ways = Ways::new();
    for name in &args.only {
        ways.push(match name.as_str() {
            "raw" => ("raw TCP", Box::new(Raw::start(args.in_flight)?)),
            "ours" => {
                let grpc = Grpc::ours(args.in_flight, args.connections)?;
                ("ours", Box::new(grpc))
            }
            "tonic" => ("tonic", Box::new(Grpc::stock(args.in_flight)?)),
            "hop" => {
                let grpc = Grpc::hop(args.in_flight, args.connections)?;
                (hop::NAME, Box::new(grpc))
            }
            other => anyhow::bail!("--only takes raw, ours, tonic and hop, not `{other}`"),
        });
    }
    Ok(ways)
}

fn report(names: &[&str], cases: &[Case]) -> Report {
    let mut report = Report::default();
    let mut columns = vec!["KiB".to_owned(), "direction".to_owned()];
    for name in names {
        columns.extend([format!("{name} GB/s"), "CPU s/GB".to_owned()]);
    }
    let ours = names.iter().position(|name| *name == "ours");
    let others: Vec<usize> = (0..names.len()).filter(|&way| Some(way) != ours).collect();
    columns.extend(
        others
            .iter()
            .filter(|_| ours.is_some())
            .map(|&way| format!("CPU / {}", names[way])),
    );
    let mut rows = Vec::new();
    let mut headline = vec![Vec::new(); names.len()];
    for group in cases.chunks(names.len()) {
        let Load { up, down, .. } = group[0].load;
        let direction = if up > down { "up" } else { "down" };
        let mut row = vec![(((up + down) >> 10) as f64).into(), direction.into()];
        for case in group {
            row.extend([median(&case.rate).into(), median(&case.cpu).into()]);
            if up + down == HEADLINE {
                headline[case.way].push(&case.cpu);
            }
        }
        if let Some(ours) = ours {
            row.extend(others.iter().map(|&way| {
                let pairs = group[ours].cpu.iter().zip(&group[way].cpu);
                median(&pairs.map(|(a, b)| a / b).collect::<Vec<_>>()).into()
            }));
        }
        rows.push(row);
    }
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    report.table("Messages over loopback, both ends", &columns, rows);
    if let Some(ours) = ours.filter(|&ours| !headline[ours].is_empty()) {
        // Round by round: the sum over both directions, ours over the other's.
        let sums = |way: usize| -> Vec<f64> {
            let rounds = headline[way].first().map_or(0, |cpu| cpu.len());
            let sum = |round| headline[way].iter().map(|cpu| cpu[round]).sum::<f64>();
            (0..rounds).map(sum).collect()
        };
        for &way in &others {
            let (ours, other) = (sums(ours), sums(way));
            let ratios: Vec<f64> = ours.iter().zip(other).map(|(a, b)| a / b).collect();
            let name = format!("4 MiB, up and down: our CPU over that of {}", names[way]);
            report.figure(name, median(&ratios), "");
        }
    }
    report.note(
        "CPU s/GB: user and system time of both ends. raw TCP: threads that write and read whole \
         messages, one connection for each message in flight. tonic: its default \
         builders and codec, one channel, the message limit raised, on the stubs of ours, which \
         hold their bytes in reference-counted buffers. All share one process and one allocator.",
    );
    report
}
