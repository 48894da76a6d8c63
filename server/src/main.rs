//! `preheat-server`: parse, build, serve, drain.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// glibc gives every buffer of several megabytes back to the system and faults it in again for the
/// next message, which costs as much CPU as the rest of the wire.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A Preheat replica: encodes images into VAE latents for trainers, over gRPC.
#[derive(Debug, Parser)]
#[command(name = "preheat-server", version)]
struct Cli {
    #[command(flatten)]
    args: preheat_server::Args,
}

fn main() -> ExitCode {
    match preheat_server::run(Cli::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("preheat-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}
