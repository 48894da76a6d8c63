//! Look-ahead: its bounds, and order in spite of answers out of order.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use preheat_client::DataLoader;
use tokio::sync::Semaphore;

use crate::{
    photos::Photos,
    stub::{Act, Stub, drain, eventually},
};

#[test]
fn batches_ahead_are_bounded() {
    let stub = Stub::answering();
    let photos = Photos::new(60);
    let mut config = photos.config(&stub.uri());
    config.max_batches_ahead = 3;
    config.chunk_items = Some(4);
    config.chunk_pixels = Some(1 << 20);
    let mut loader = DataLoader::new(config).unwrap();
    for taken in 0..4 {
        eventually("three batches ready", || loader.stats().ready_batches == 3);
        // A trainer that pauses now leaves nothing that could time out.
        eventually("nothing under way", || {
            stub.counts.in_flight.load(SeqCst) == 0
        });
        assert_eq!(loader.stats().under_way, 0);
        assert_eq!(stub.calls(), taken + 3, "a batch is a call");
        loader.next_batch().unwrap().unwrap();
    }
    drain(&mut loader, 1);
    assert!(stub.counts.most_in_flight.load(SeqCst) <= 3);
    assert_eq!(loader.stats().window_bytes, 0, "everything given back");
}

#[test]
fn bytes_ahead_are_bounded() {
    let stub = Stub::answering();
    let photos = Photos::new(60);
    let mut config = photos.config(&stub.uri());
    config.window_bytes = 16 * 1024;
    let mut loader = DataLoader::new(config.clone()).unwrap();
    drain(&mut loader, 1);
    let peak = loader.stats().window_bytes_peak;
    assert!((4096..=16 * 1024).contains(&peak), "{peak}");

    // Smaller than any batch: they still come, one at a time.
    config.window_bytes = 1;
    config.chunk_items = Some(4);
    config.chunk_pixels = Some(1 << 20);
    stub.counts.most_in_flight.store(0, SeqCst);
    drain(&mut DataLoader::new(config).unwrap(), 1);
    assert_eq!(stub.counts.most_in_flight.load(SeqCst), 1);
}

#[test]
fn a_slow_sample_delays_only_its_own_batch() {
    let gate = Arc::new(Semaphore::new(0));
    let scripted = gate.clone();
    let first = Arc::new(std::sync::OnceLock::new());
    let slow = first.clone();
    let stub = Stub::start(
        move |_, ids| match slow.get().is_some_and(|id| ids.contains(id)) {
            true => Act::Wait(scripted.clone()),
            false => Act::Answer,
        },
    );
    let photos = Photos::new(60);
    let mut config = photos.config(&stub.uri());
    let order = drain(&mut DataLoader::new(config.clone()).unwrap(), 1);
    first.set(order[0].ids()[0]).unwrap();

    config.max_batches_ahead = 8;
    let mut loader = DataLoader::new(config).unwrap();
    eventually("seven batches ready behind the slow one", || {
        loader.stats().ready_batches == 7
    });
    gate.add_permits(1000);
    let again = drain(&mut loader, 1);
    assert!(
        order
            .iter()
            .map(|one| &one.samples)
            .eq(again.iter().map(|one| &one.samples))
    );
    assert_eq!(loader.stats().ready_batches, 0);
}

#[test]
fn a_batch_that_fits_one_call_is_one_call() {
    let stub = Stub::answering();
    let photos = Photos::new(12);
    let mut config = photos.config(&stub.uri());
    config.chunk_pixels = Some(1 << 20);
    let mut loader = DataLoader::new(config).unwrap();
    let batches = drain(&mut loader, 1);
    assert_eq!(stub.calls(), batches.len());
}
