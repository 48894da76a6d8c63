use super::*;
use crate::engine::item::Shape;

const LINGER: Duration = Duration::from_millis(4);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Fake {
    id: u32,
    key: Key,
    needed: Instant,
    wanted: bool,
    mates: bool,
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
}

fn key(side: u32) -> Key {
    let shape = Shape {
        width: side,
        height: side,
        frames: 1,
    };
    Key { model: 0, shape }
}

fn item(id: u32, needed: Instant) -> Fake {
    Fake {
        id,
        key: key(8),
        needed,
        wanted: true,
        mates: false,
    }
}

fn batcher(items: usize) -> Batcher<Fake> {
    let budget = Budget {
        pixels: 1 << 20,
        items,
    };
    Batcher::new(vec![budget], LINGER)
}

fn ids(next: Next<Fake>) -> Vec<u32> {
    match next {
        Next::Batch(batch) => batch.iter().map(|item| item.id).collect(),
        other => panic!("expected a batch, got {other:?}"),
    }
}

#[test]
fn an_idle_device_takes_what_there_is() {
    let now = Instant::now();
    let mut batcher = batcher(4);
    assert_eq!(batcher.next(now, Device::Idle), Next::Nothing);
    batcher.push(item(1, now), now);
    assert_eq!(ids(batcher.next(now, Device::Idle)), [1]);
    assert_eq!(batcher.next(now, Device::Idle), Next::Nothing);
}

#[test]
fn a_busy_device_gets_only_full_batches() {
    let now = Instant::now();
    let mut batcher = batcher(2);
    batcher.push(item(1, now), now);
    assert_eq!(batcher.next(now, Device::Busy), Next::Nothing);
    batcher.push(item(2, now), now);
    batcher.push(item(3, now), now);
    assert_eq!(ids(batcher.next(now, Device::Busy)), [1, 2]);
    assert_eq!(batcher.next(now, Device::Busy), Next::Nothing);
    assert_eq!(ids(batcher.next(now, Device::Idle)), [3]);
}

#[test]
fn siblings_in_decoding_are_waited_for_up_to_the_linger() {
    let now = Instant::now();
    let mut batcher = batcher(8);
    let early = Fake {
        mates: true,
        ..item(1, now)
    };
    batcher.push(early, now);
    assert_eq!(batcher.next(now, Device::Idle), Next::At(now + LINGER));

    // A mate restarts the linger ...
    let later = now + LINGER / 2;
    batcher.push(Fake { id: 2, ..early }, later);
    assert_eq!(batcher.next(later, Device::Idle), Next::At(later + LINGER));
    // ... and then they go, though more are coming.
    assert_eq!(ids(batcher.next(later + LINGER, Device::Idle)), [1, 2]);
}

#[test]
fn the_linger_is_bounded_however_many_mates_arrive() {
    let start = Instant::now();
    let mut batcher = batcher(1000);
    let limit = start + LINGER * LINGER_STRETCH;
    let mut now = start;
    let mut id = 0;
    while now < limit {
        let mates = true;
        batcher.push(
            Fake {
                mates,
                ..item(id, now)
            },
            now,
        );
        match batcher.next(now, Device::Idle) {
            Next::At(at) => assert!(at <= limit),
            other => panic!("launched early: {other:?}"),
        }
        now += LINGER / 2;
        id += 1;
    }
    assert_eq!(ids(batcher.next(limit, Device::Idle)).len(), id as usize);
}

#[test]
fn a_full_batch_does_not_linger() {
    let now = Instant::now();
    let mut batcher = batcher(2);
    for id in 1..=2 {
        let mates = true;
        batcher.push(
            Fake {
                mates,
                ..item(id, now)
            },
            now,
        );
    }
    assert_eq!(ids(batcher.next(now, Device::Idle)), [1, 2]);
}

#[test]
fn the_earliest_needed_goes_first_whatever_its_arrival() {
    let now = Instant::now();
    let mut batcher = batcher(2);
    for (id, seconds) in [(1, 9), (2, 5), (3, 7)] {
        batcher.push(item(id, now + Duration::from_secs(seconds)), now);
    }
    let urgent = Fake {
        key: key(16),
        ..item(4, now + Duration::from_secs(6))
    };
    batcher.push(urgent, now);
    assert_eq!(ids(batcher.next(now, Device::Idle)), [2, 3]);
    assert_eq!(ids(batcher.next(now, Device::Idle)), [4]);
    assert_eq!(ids(batcher.next(now, Device::Idle)), [1]);
}

#[test]
fn another_shape_goes_while_one_lingers() {
    let now = Instant::now();
    let mut batcher = batcher(4);
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
    assert_eq!(ids(batcher.next(now, Device::Idle)), [2]);
}

#[test]
fn pixels_bound_a_batch_but_one_item_always_fits() {
    let now = Instant::now();
    let budget = Budget {
        pixels: 3 * 64 + 10,
        items: 100,
    };
    let mut batcher = Batcher::new(vec![budget], LINGER);
    for id in 0..4 {
        batcher.push(item(id, now), now);
    }
    assert_eq!(ids(batcher.next(now, Device::Idle)), [0, 1, 2]);
    assert_eq!(ids(batcher.next(now, Device::Idle)), [3]);
    let huge = Fake {
        key: key(1024),
        ..item(9, now)
    };
    batcher.push(huge, now);
    assert_eq!(ids(batcher.next(now, Device::Busy)), [9]);
}

#[test]
fn the_unwanted_are_dropped_not_encoded() {
    let now = Instant::now();
    let mut batcher = batcher(4);
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
    assert_eq!(ids(batcher.next(now, Device::Idle)), [1, 3]);
    let wanted = false;
    batcher.push(
        Fake {
            wanted,
            ..item(4, now)
        },
        now,
    );
    assert_eq!(batcher.next(now, Device::Idle), Next::Nothing);
}

#[test]
fn the_rest_of_a_group_is_not_starved_by_full_batches() {
    let now = Instant::now();
    let later = |id: u32| now + Duration::from_secs(u64::from(id));
    let mut batcher = batcher(2);
    let other = |id| Fake {
        key: key(16),
        ..item(id, later(id))
    };
    batcher.push(item(0, now), now);
    for id in 1..7 {
        batcher.push(other(id), now);
    }
    // Full batches may pass it, but not for as long as there are any.
    assert_eq!(ids(batcher.next(now, Device::Busy)), [1, 2]);
    assert_eq!(ids(batcher.next(now, Device::Busy)), [0]);
    assert_eq!(ids(batcher.next(now, Device::Busy)), [3, 4]);
}
