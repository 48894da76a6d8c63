//! `preheat-balancer`: mixed, preemptible replicas behave like one fast one.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// glibc gives every buffer of several megabytes back to the system and faults it in again for the
/// next frame, which costs as much CPU as the rest of the relay.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A balancer for Preheat replicas: trainers call it as if it were one.
#[derive(Debug, Parser)]
#[command(name = "preheat-balancer", version)]
struct Cli {
    #[command(flatten)]
    args: preheat_client::relay::Args,
}

fn main() -> ExitCode {
    match preheat_client::relay::run(&Cli::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("preheat-balancer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
