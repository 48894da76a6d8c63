//! `preheat-bench`: the demo and the measurements.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use preheat_bench::{demo, encode, fleet, index, load, trainer, wire};

/// As in `preheat-server`: buffers of many megabytes come and go with every layer and every call, and
/// the system's allocator gives each back and faults it in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Try Preheat and measure it.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Write the printed figures, with the command, versions and machine, to this file.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Photos in, ordered latents out, through a real replica; writes a contact sheet.
    Demo(demo::Args),
    /// How fast a model encodes in this process, by size, batch and dtype.
    Encode(encode::Args),
    /// The balancer against simulated replicas, beside other policies and the fluid optimum.
    Fleet(fleet::Args),
    /// Builds, shows and verifies the index of a dataset.
    Index(index::Args),
    /// What an endpoint stands: latency and goodput by offered load, and where its knee is.
    Load(load::Args),
    /// Simulated trainers with real loaders: how long they stand still, and what that costs the host.
    Trainer(trainer::Args),
    /// What messages between loader and replica cost, beside plain sockets and plain tonic.
    Wire(wire::Args),
    /// A replica, as `preheat-server` runs it. The other commands start it in a process of its own.
    #[command(hide = true)]
    Replica(preheat_server::Args),
    /// A balancer, as `preheat-balancer` runs it, likewise.
    #[command(hide = true)]
    Balancer(preheat_client::relay::Args),
    /// A rank of a simulated trainer, likewise.
    #[command(hide = true)]
    Rank,
}

fn main() -> anyhow::Result<()> {
    let Cli { command, json } = Cli::parse();
    let report = match command {
        Command::Demo(args) => demo::run(&args)?,
        Command::Encode(args) => encode::run(&args)?,
        Command::Fleet(args) => fleet::run(&args)?,
        Command::Index(args) => index::run(&args)?,
        Command::Load(args) => load::run(&args)?,
        Command::Trainer(args) => trainer::run(&args)?,
        Command::Wire(args) => wire::run(&args)?,
        Command::Replica(args) => return preheat_server::run(args),
        Command::Balancer(args) => return preheat_client::relay::run(&args),
        Command::Rank => return trainer::run_rank(),
    };
    report.finish(json.as_deref())
}
