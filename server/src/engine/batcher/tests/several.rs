//! Several devices.

use super::*;

fn at(rates: [Option<f64>; 2]) -> [Option<Terms>; 2] {
    let [first, second] = up_to(2);
    let with = |terms: Option<Terms>, rate| terms.map(|terms| Terms { rate, ..terms });
    [with(first, rates[0]), with(second, rates[1])]
}

fn two(now: Instant) -> Batcher<Fake> {
    Batcher::new(2, LINGER, now)
}

fn device(next: Next<Fake>) -> usize {
    match next {
        Next::Batch(device, _) => device,
        other => panic!("expected a batch, got {other:?}"),
    }
}

/// Two items: a full batch.
fn push_pair(batcher: &mut Batcher<Fake>, terms: [Option<Terms>; 2], now: Instant) {
    for id in 0..2 {
        batcher.push(
            Fake {
                terms,
                ..item(id, now)
            },
            now,
        );
    }
}

#[test]
fn every_device_is_kept_busy_with_one_batch_ahead() {
    let now = Instant::now();
    let mut batcher = two(now);
    for _ in 0..5 {
        push_pair(&mut batcher, up_to(2), now);
    }
    let mut got = [0; 2];
    for _ in 0..4 {
        got[device(batcher.next(now))] += 1;
    }
    assert_eq!(got, [2, 2]);
    assert_eq!(batcher.next(now), Next::Nothing);
    batcher.done(1, now);
    assert_eq!(device(batcher.next(now)), 1);
}

#[test]
fn a_batch_goes_where_it_will_have_finished_first() {
    let now = Instant::now();
    // 128 pixels take 10 ms on the first, 100 ms on the second.
    let terms = at([Some(12_800.0), Some(1280.0)]);
    let mut batcher = two(now);
    let mut order = Vec::new();
    for _ in 0..4 {
        push_pair(&mut batcher, terms, now);
        order.push(device(batcher.next(now)));
    }
    // Even the second in line on the fast one ends before the first on the slow one.
    assert_eq!(order, [0, 0, 1, 1]);
    push_pair(&mut batcher, terms, now);
    assert!(!matches!(batcher.next(now), Next::Batch(..)));
}

#[test]
fn time_that_has_passed_counts() {
    let now = Instant::now();
    let terms = at([Some(1280.0), Some(1280.0)]);
    let mut batcher = two(now);
    push_pair(&mut batcher, terms, now);
    let first = device(batcher.next(now));
    let later = now + Duration::from_millis(60);
    push_pair(&mut batcher, terms, later);
    assert_eq!(device(batcher.next(later)), 1 - first);
    // The first has 40 ms left, the other 100.
    push_pair(&mut batcher, terms, later);
    assert_eq!(device(batcher.next(later)), first);
}

#[test]
fn a_device_that_was_not_measured_is_tried() {
    let now = Instant::now();
    let mut batcher = two(now);
    let terms = at([Some(1280.0), None]);
    push_pair(&mut batcher, terms, now);
    push_pair(&mut batcher, terms, now);
    let mut used = [device(batcher.next(now)), device(batcher.next(now))];
    used.sort_unstable();
    assert_eq!(used, [0, 1]);
}

#[test]
fn a_device_that_lost_the_model_gets_none_of_it() {
    let now = Instant::now();
    let mut batcher = two(now);
    let terms = [None, up_to(2)[1]];
    for _ in 0..3 {
        push_pair(&mut batcher, terms, now);
    }
    assert_eq!(device(batcher.next(now)), 1);
    assert_eq!(device(batcher.next(now)), 1);
    assert_eq!(batcher.next(now), Next::Nothing);
}

#[test]
fn what_no_device_can_encode_is_given_back() {
    let now = Instant::now();
    let mut batcher = two(now);
    push_pair(&mut batcher, [None; 2], now);
    let Next::Orphans(items) = batcher.next(now) else {
        panic!("these can go nowhere");
    };
    assert_eq!(items.len(), 2);
    assert_eq!(batcher.next(now), Next::Nothing);
}
