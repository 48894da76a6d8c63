//! What can be seen from outside, through the real loader.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use preheat_client::{Bound, DataLoader, Stage};
use tokio::sync::Semaphore;

use crate::{
    photos::Photos,
    stub::{Act, Stub, drain, eventually},
};

#[test]
fn a_wait_for_the_fleet_is_laid_at_the_fleet() {
    let gate = Arc::new(Semaphore::new(0));
    let scripted = gate.clone();
    let stub = Stub::start(move |call, _| match call {
        0 => Act::Answer,
        _ => Act::Wait(scripted.clone()),
    });
    let photos = Photos::new(16);
    let mut config = photos.config(&stub.uri());
    config.chunk_pixels = Some(1 << 20);
    config.max_batches_ahead = 1;
    let mut loader = DataLoader::new(config).unwrap();
    loader.next_batch().unwrap().unwrap();
    eventually("a call under way", || {
        stub.counts.in_flight.load(SeqCst) > 0
    });
    assert!(loader.stats().bytes_in_flight > 0);
    assert_eq!(loader.stats().under_way, 1);
    let trainer = std::thread::spawn(move || {
        loader.next_batch().unwrap().unwrap();
        loader
    });
    // A trainer that waits, for long enough to be a wait.
    let start = std::time::Instant::now();
    eventually("time to pass", || {
        start.elapsed() > Duration::from_millis(50)
    });
    gate.add_permits(1000);
    let mut loader = trainer.join().unwrap();
    let stats = loader.stats();
    assert_eq!((stats.batches, stats.waits.min(2)), (2, stats.waits));
    let fleet = stats.waited_on[Stage::Queue] + stats.waited_on[Stage::Replica];
    assert!(fleet * 2 > stats.waited_on.total(), "{stats:?}");
    assert_eq!(stats.bound(), Bound::Fleet, "{}", stats.summary());
    assert!(stats.readiness() < 1.0 && stats.stall_share() > 0.0);
    assert_eq!(stats.encode.count, 2);
    assert!(stats.encode.p99 >= stats.encode.p50);
    drain(&mut loader, 1);
    let stats = loader.stats();
    assert_eq!((stats.bytes_in_flight, stats.under_way), (0, 0));
    assert!(
        stats.summary().contains("bound by the fleet"),
        "{}",
        stats.summary()
    );
    let line = stats.progress_line();
    assert!(line.contains(&format!("{} images", stats.images)), "{line}");
}

#[test]
fn hedges_are_counted_among_the_retries() {
    let never = Arc::new(Semaphore::new(0));
    let scripted = never.clone();
    let slow = Stub::start(move |call, _| match call {
        // It is known to be fast, and then it is not.
        0..4 => Act::Answer,
        _ => Act::Wait(scripted.clone()),
    });
    let fast = Stub::answering();
    let photos = Photos::new(60);
    let mut config = photos.config(&format!("{},{}", slow.uri(), fast.uri()));
    config.chunk_items = Some(1);
    let mut loader = DataLoader::new(config).unwrap();
    drain(&mut loader, 1);
    let stats = loader.stats();
    let totals = loader.fleet().totals;
    assert_eq!(stats.hedges, totals.hedges);
    assert!(stats.retries >= stats.hedges);
}
