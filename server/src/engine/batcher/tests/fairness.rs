//! Several models in front of one device.

use super::*;

/// Pixels between models that share fairly, at most: a batch of two of each.
const APART: u64 = 2 * (32 * 32 + 8 * 8);

/// An item of one of two models. Those of model 1 are sixteen times as large.
fn of(model: usize, id: u32, needed: Instant) -> Fake {
    let side = [8, 32][model];
    Fake {
        key: Key { model, ..key(side) },
        ..item(id, needed)
    }
}

/// Lets the device take so many batches, each done before the next; pixels that each model got.
fn shares(batcher: &mut Batcher<Fake>, batches: usize, now: Instant) -> [u64; 2] {
    let mut got = [0; 2];
    for _ in 0..batches {
        let Next::Batch(device, batch) = batcher.next(now) else {
            break;
        };
        for item in batch {
            got[item.key.model] += item.key.shape.pixels();
        }
        batcher.done(device, now);
    }
    got
}

#[test]
fn models_share_a_device_by_pixels() {
    let now = Instant::now();
    let mut batcher = batcher(now);
    for id in 0..400 {
        batcher.push(of(0, id, now), now);
        batcher.push(of(1, 1000 + id, now), now);
    }
    let got = shares(&mut batcher, 170, now);
    assert!(got[0].abs_diff(got[1]) <= APART, "{got:?}");
    assert!(got[0] > 8 * 32 * 32, "{got:?}");
}

#[test]
fn a_model_that_is_needed_early_does_not_starve_another() {
    let now = Instant::now();
    let mut batcher = batcher(now);
    for id in 0..100 {
        batcher.push(of(0, id, now), now);
    }
    batcher.push(of(1, 1000, now + Duration::from_secs(60)), now);
    let got = shares(&mut batcher, 2, now);
    assert_eq!(got[1], 32 * 32, "{got:?}");
}

#[test]
fn not_even_with_a_partial_batch_while_the_device_is_always_busy() {
    let now = Instant::now();
    let mut batcher = busy(now);
    for id in 0..100 {
        batcher.push(of(0, id, now), now);
    }
    // Two batches of the busy model have gone; then one item of the other comes.
    for _ in 0..2 {
        assert_eq!(ids(batcher.next(now)).len(), 2);
        batcher.done(0, now);
    }
    batcher.push(of(1, 1000, now + Duration::from_secs(60)), now);
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(ids(batcher.next(now)));
        batcher.done(0, now);
    }
    let place = order.iter().position(|batch| *batch == [1000]);
    assert!(place <= Some(2) && place.is_some(), "{order:?}");
}

#[test]
fn staying_away_saves_nothing_up() {
    let now = Instant::now();
    let mut batcher = batcher(now);
    for id in 0..200 {
        batcher.push(of(0, id, now), now);
    }
    assert_eq!(shares(&mut batcher, 50, now), [100 * 64, 0]);
    for id in 0..50 {
        batcher.push(of(1, 1000 + id, now), now);
    }
    // Without a clock that moves on, the first 50 would all be of the large model.
    let got = shares(&mut batcher, 50, now);
    assert!(got[0].abs_diff(got[1]) <= APART, "{got:?}");
}

#[test]
fn within_a_model_the_earliest_needed_goes_first() {
    let now = Instant::now();
    let mut batcher = batcher(now);
    let sizes = [(1, 8, 9), (2, 16, 3), (3, 24, 6)];
    for (id, side, seconds) in sizes {
        let needed = now + Duration::from_secs(seconds);
        batcher.push(
            Fake {
                key: key(side),
                ..item(id, needed)
            },
            now,
        );
    }
    for expected in [2, 3, 1] {
        assert_eq!(ids(batcher.next(now)), [expected]);
        batcher.done(0, now);
    }
}

#[test]
fn models_that_left_are_forgotten() {
    let now = Instant::now();
    let mut batcher = batcher(now);
    for model in 0..1000 {
        batcher.push(
            Fake {
                key: Key { model, ..key(8) },
                ..item(0, now)
            },
            now,
        );
        ids(batcher.next(now));
        batcher.done(0, now);
    }
    assert!(batcher.shares.len() <= 2, "{:?}", batcher.shares);
}
