use super::*;
use crate::engine::item::Shape;

const LINGER: Duration = Duration::from_millis(4);

mod fairness;
mod several;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Fake {
    id: u32,
    key: Key,
    needed: Instant,
    wanted: bool,
    mates: bool,
    terms: [Option<Terms>; 2],
}

impl Entry for Fake {
    fn key(&self) -> Key {
        self.key
    }

    fn needed(&self) -> Instant {
        self.needed
    }

    fn is_wanted(&self, _now: Instant) -> bool {
        self.wanted
    }

    fn mates_coming(&self) -> bool {
        self.mates
    }

    fn terms(&self, device: usize) -> Option<Terms> {
        self.terms[device]
    }
}

impl PartialEq for Terms {
    fn eq(&self, other: &Self) -> bool {
        self.budget.items == other.budget.items && self.rate == other.rate
    }
}

fn key(side: u32) -> Key {
    let shape = Shape {
        width: side,
        height: side,
        frames: 1,
    };
    Key { model: 0, shape }
}

/// A budget of so many items on every device; no device was measured.
fn up_to(items: usize) -> [Option<Terms>; 2] {
    let budget = Budget {
        pixels: 1 << 20,
        items,
    };
    [Some(Terms { budget, rate: None }); 2]
}

/// An item of a model whose batches hold two.
fn item(id: u32, needed: Instant) -> Fake {
    Fake {
        id,
        key: key(8),
        needed,
        wanted: true,
        mates: false,
        terms: up_to(2),
    }
}

/// In front of one idle device.
fn batcher(now: Instant) -> Batcher<Fake> {
    Batcher::new(1, LINGER, now)
}

/// The same, but the device has work that takes nobody knows how long.
fn busy(now: Instant) -> Batcher<Fake> {
    let mut batcher = batcher(now);
    batcher.push(
        Fake {
            key: key(32),
            ..item(99, now)
        },
        now,
    );
    assert_eq!(ids(batcher.next(now)), [99]);
    batcher
}

fn ids(next: Next<Fake>) -> Vec<u32> {
    match next {
        Next::Batch(_, batch) => batch.iter().map(|item| item.id).collect(),
        other => panic!("expected a batch, got {other:?}"),
    }
}

#[test]
fn an_idle_device_takes_what_there_is() {
    let now = Instant::now();
    let mut batcher = batcher(now);
    assert_eq!(batcher.next(now), Next::Nothing);
    batcher.push(item(1, now), now);
    assert_eq!(ids(batcher.next(now)), [1]);
    assert_eq!(batcher.next(now), Next::Nothing);
}

#[test]
fn a_busy_device_gets_only_full_batches_and_one_ahead() {
    let now = Instant::now();
    let mut batcher = busy(now);
    batcher.push(item(1, now), now);
    assert_eq!(batcher.next(now), Next::Nothing);
    for id in 2..=5 {
        batcher.push(item(id, now), now);
    }
    assert_eq!(ids(batcher.next(now)), [1, 2]);
    assert_eq!(batcher.next(now), Next::Nothing);
    batcher.done(0, now);
    assert_eq!(ids(batcher.next(now)), [3, 4]);
    batcher.done(0, now);
    assert_eq!(batcher.next(now), Next::Nothing);
    batcher.done(0, now);
    assert_eq!(ids(batcher.next(now)), [5]);
}

#[test]
fn siblings_in_decoding_are_waited_for_up_to_the_linger() {
    let now = Instant::now();
    let mut batcher = batcher(now);
    let early = Fake {
        mates: true,
        terms: up_to(8),
        ..item(1, now)
    };
    batcher.push(early, now);
    assert_eq!(batcher.next(now), Next::At(now + LINGER));

    // A mate restarts the linger ...
    let later = now + LINGER / 2;
    batcher.push(Fake { id: 2, ..early }, later);
    assert_eq!(batcher.next(later), Next::At(later + LINGER));
    // ... and then they go, though more are coming.
    assert_eq!(ids(batcher.next(later + LINGER)), [1, 2]);
}

#[test]
fn the_linger_is_bounded_however_many_mates_arrive() {
    let start = Instant::now();
    let mut batcher = batcher(start);
    let limit = start + LINGER * LINGER_STRETCH;
    let mut now = start;
    let mut id = 0;
    while now < limit {
        let lingering = Fake {
            mates: true,
            terms: up_to(1000),
            ..item(id, now)
        };
        batcher.push(lingering, now);
        match batcher.next(now) {
            Next::At(at) => assert!(at <= limit),
            other => panic!("launched early: {other:?}"),
        }
        now += LINGER / 2;
        id += 1;
    }
    assert_eq!(ids(batcher.next(limit)).len(), id as usize);
}

#[test]
fn a_full_batch_does_not_linger() {
    let now = Instant::now();
    let mut batcher = batcher(now);
    for id in 1..=2 {
        let lingering = Fake {
            mates: true,
            ..item(id, now)
        };
        batcher.push(lingering, now);
    }
    assert_eq!(ids(batcher.next(now)), [1, 2]);
}

#[test]
fn the_earliest_needed_goes_first_whatever_its_arrival() {
    let now = Instant::now();
    let mut batcher = batcher(now);
    for (id, seconds) in [(1, 9), (2, 5), (3, 7)] {
        batcher.push(item(id, now + Duration::from_secs(seconds)), now);
    }
    let urgent = Fake {
        key: key(16),
        ..item(4, now + Duration::from_secs(6))
    };
    batcher.push(urgent, now);
    for expected in [vec![2, 3], vec![4], vec![1]] {
        assert_eq!(ids(batcher.next(now)), expected);
        batcher.done(0, now);
    }
}

#[test]
fn another_shape_goes_while_one_lingers() {
    let now = Instant::now();
    let mut batcher = batcher(now);
    let lingering = Fake {
        mates: true,
        ..item(1, now)
    };
    batcher.push(lingering, now);
    let other = Fake {
        key: key(16),
        ..item(2, now + Duration::from_secs(1))
    };
    batcher.push(other, now);
    assert_eq!(ids(batcher.next(now)), [2]);
}

#[test]
fn pixels_bound_a_batch_but_one_item_always_fits() {
    let now = Instant::now();
    let budget = Budget {
        pixels: 3 * 64 + 10,
        items: 100,
    };
    let terms = [Some(Terms { budget, rate: None }); 2];
    let mut batcher = batcher(now);
    for id in 0..4 {
        batcher.push(
            Fake {
                terms,
                ..item(id, now)
            },
            now,
        );
    }
    assert_eq!(ids(batcher.next(now)), [0, 1, 2]);
    batcher.done(0, now);
    assert_eq!(ids(batcher.next(now)), [3]);
    let huge = Fake {
        key: key(1024),
        terms,
        ..item(9, now)
    };
    batcher.push(huge, now);
    // Full by itself, so it goes ahead of a busy device.
    assert_eq!(ids(batcher.next(now)), [9]);
}

#[test]
fn the_unwanted_are_dropped_not_encoded() {
    let now = Instant::now();
    let mut batcher = batcher(now);
    for id in 1..=3 {
        let wanted = id != 2;
        batcher.push(
            Fake {
                wanted,
                ..item(id, now)
            },
            now,
        );
    }
    assert_eq!(ids(batcher.next(now)), [1, 3]);
    batcher.done(0, now);
    let wanted = false;
    batcher.push(
        Fake {
            wanted,
            ..item(4, now)
        },
        now,
    );
    assert_eq!(batcher.next(now), Next::Nothing);
}

#[test]
fn the_rest_of_a_group_is_not_starved_by_full_batches() {
    let now = Instant::now();
    let later = |id: u32| now + Duration::from_secs(u64::from(id));
    let mut batcher = busy(now);
    let other = |id| Fake {
        key: key(16),
        ..item(id, later(id))
    };
    batcher.push(item(0, now), now);
    for id in 1..7 {
        batcher.push(other(id), now);
    }
    // Full batches may pass it, but not for as long as there are any.
    for expected in [vec![1, 2], vec![0], vec![3, 4]] {
        assert_eq!(ids(batcher.next(now)), expected);
        batcher.done(0, now);
    }
}

#[test]
fn a_partial_batch_goes_shortly_before_the_device_falls_idle() {
    let now = Instant::now();
    let mut batcher = batcher(now);
    // 64 pixels at 640 a second take 100 ms.
    let rate = Some(640.0);
    let terms = up_to(2).map(|terms| terms.map(|terms| Terms { rate, ..terms }));
    let item = |id| Fake {
        terms,
        ..item(id, now)
    };
    batcher.push(item(1), now);
    assert_eq!(ids(batcher.next(now)), [1]);
    batcher.push(item(2), now);
    let Next::At(at) = batcher.next(now) else {
        panic!("the partial batch must wait for a mate");
    };
    let ends = now + Duration::from_millis(100);
    assert!(at < ends && at > now + Duration::from_millis(90));
    assert_eq!(ids(batcher.next(at)), [2]);
    // Late, and so expected every moment.
    batcher.done(0, ends + LINGER);
    batcher.push(item(3), ends);
    assert_eq!(ids(batcher.next(ends + Duration::from_secs(1))), [3]);
}
