//! A replica that dies in the middle of an epoch and comes back costs time, and nothing else.

use preheat_client::{Config, DataLoader};

use crate::{config, folder, held_address, replica, replica_at, run};

#[test]
fn an_epoch_survives_the_death_of_its_replica() {
    // Slow enough that most of the epoch is still to come when the replica dies.
    let model = "synthetic:ms-per-megapixel=2000";
    let folder = folder(4);
    let address = held_address();
    let first = replica_at(model, &address);
    let config = Config {
        max_batches_ahead: 3,
        ..config(&folder, &first)
    };
    let undisturbed = run(config.clone());

    let mut loader = DataLoader::new(config).unwrap();
    let mut batches = Vec::new();
    let mut replica = Some(first);
    while let Some(batch) = loader.next_batch().unwrap() {
        batches.push(batch);
        if batches.len() % 8 == 3 {
            replica.take().unwrap().kill();
            replica = Some(replica_at(model, &address));
        }
    }
    assert!(
        loader.stats().retries > 0,
        "the deaths were not even noticed"
    );
    assert_eq!(batches.len(), undisturbed.len());
    for (batch, expected) in batches.iter().zip(&undisturbed) {
        assert_eq!((batch.epoch, batch.step), (expected.epoch, expected.step));
        assert_eq!(batch.samples, expected.samples);
        assert!(batch.latents == expected.latents, "step {}", batch.step);
    }
}

#[test]
fn an_endpoint_that_nobody_serves_is_an_error_in_time() {
    let folder = folder(1);
    let replica = replica_at("synthetic", &held_address());
    let config = config(&folder, &replica);
    replica.kill();
    let connect_timeout = std::time::Duration::from_millis(300);
    let error = DataLoader::new(Config {
        connect_timeout,
        ..config
    })
    .err()
    .unwrap()
    .to_string();
    assert!(error.contains("nobody answers"), "{error}");
}

#[test]
fn a_port_in_use_is_an_error() {
    let replica = replica("synthetic");
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_preheat-bench"));
    let listen = replica.address().to_string();
    let output = std::process::Command::new(program)
        .args(["replica", "--model", "vae=synthetic", "--listen", &listen])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        words.contains(&listen) && words.contains("in use"),
        "{words}"
    );
}
