//! End-to-end tests: the real loader and real replicas, each in a process of its own, over real
//! sockets. What no single crate can show.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod arrows;
mod bad_samples;
mod browser;
mod clips;
mod demo;
mod failover;
mod fleet;
mod index;
mod large_clips;
mod order;
mod service;
mod trainer;

use std::path::Path;

use preheat_bench::{photos, replica::Replica};
use preheat_client::{Batch, Config, Crop, DataLoader};
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// A replica of `model`, named `vae`, on a free port.
fn replica(model: &str) -> Replica {
    replica_at(model, "127.0.0.1:0")
}

/// Where replicas may come and go: a port that is given to nobody who asks for any, held by a socket that is
/// bound, does not listen, and stays until the tests end.
fn held_address() -> String {
    let held = TcpSocket::new_v4().unwrap();
    held.set_reuseaddr(true).unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = held.local_addr().unwrap();
    std::mem::forget(held);
    address.to_string()
}

fn replica_at(model: &str, listen: &str) -> Replica {
    let model = format!("vae={model}");
    let program = Path::new(env!("CARGO_BIN_EXE_preheat-bench"));
    Replica::spawn(program, &["--model", &model, "--listen", listen]).unwrap()
}

/// A balancer before these replicas, with a status page, on free ports.
fn balancer(replicas: &[&str]) -> Replica {
    let program = Path::new(env!("CARGO_BIN_EXE_preheat-bench"));
    let replicas = replicas.join(",");
    let options = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
    let options = [&options[..], &["--replicas", &replicas]].concat();
    Replica::spawn_balancer(program, &options).unwrap()
}

/// A folder with copies of the sample photos, 24 of each.
fn folder(copies: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    photos::unpack(folder.path(), copies * photos::all().len()).unwrap();
    folder
}

/// Small random crops with flips, so that everything that is drawn is drawn.
fn config(folder: &TempDir, replica: &Replica) -> Config {
    Config {
        global_batch: 4,
        epochs: Some(1),
        target_area: 64 * 64,
        bucket_step: 8,
        crop: Crop::Random,
        flip: 0.5,
        index: Some(folder.path().join("photos.index")),
        ..Config::new(folder.path(), replica.endpoint(), "vae")
    }
}

/// Every batch up to the end of the last epoch.
fn run(config: Config) -> Vec<Batch> {
    let epochs = config.epochs.expect("a bounded run");
    let mut loader = DataLoader::new(config).unwrap();
    let mut batches = Vec::new();
    for _ in 0..epochs {
        while let Some(batch) = loader.next_batch().unwrap() {
            batches.push(batch);
        }
    }
    batches
}

/// The f32 values of one latent of a batch.
fn latent(batch: &Batch, index: usize) -> Vec<f32> {
    let bytes = batch.latents.data.len() / batch.samples.len();
    batch.latents.data[index * bytes..][..bytes]
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}
