//! Data that are free.

use preheat_client::{Batch, DataLoader, Tail};

use crate::{
    photos::Photos,
    stub::{Stub, drain},
};

fn places(batches: &[Batch]) -> Vec<(u64, u64, u32, u32, usize)> {
    let place = |one: &Batch| {
        let size = one.bucket;
        (
            one.epoch,
            one.step,
            size.width,
            size.height,
            one.samples.len(),
        )
    };
    batches.iter().map(place).collect()
}

#[test]
fn headspace_asks_the_fleet_once_for_every_shape() {
    let (photos, stub) = (Photos::new(40), Stub::answering());
    let mut config = photos.config(&stub.uri());
    config.epochs = Some(2);
    config.tail = Tail::Short;
    config.chunk_pixels = Some(1 << 20);
    let real = drain(&mut DataLoader::new(config.clone()).unwrap(), 2);
    let before = stub.calls();
    config.headspace = true;
    let mut loader = DataLoader::new(config.clone()).unwrap();
    let free = drain(&mut loader, 2);
    assert_eq!(places(&free), places(&real));
    let mut shapes: Vec<_> = places(&real)
        .iter()
        .map(|one| (one.2, one.3, one.4))
        .collect();
    shapes.sort_unstable();
    shapes.dedup();
    assert_eq!(stub.calls() - before, shapes.len());
    let fresh = free.iter().filter(|batch| !batch.replayed).count();
    assert_eq!(fresh, shapes.len());
    assert!(real.iter().all(|batch| !batch.replayed));
    // Places go on as ever, across a restart too.
    let state = preheat_client::State {
        step: 3,
        epoch: 1,
        ..loader.state()
    };
    loader.load_state(&state).unwrap();
    let rest = drain(&mut loader, 2);
    assert_eq!(places(&rest), places(&real)[real.len() - rest.len()..]);
    assert!(rest.iter().all(|batch| batch.epoch == 1));
    assert_eq!(stub.calls() - before, shapes.len());
}
