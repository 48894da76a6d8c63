//! How large a batch must be on a device, found by trying.

use std::time::{Duration, Instant};

use preheat_models::{Encoder, Pixels};

use super::{Measured, generation::catch, trial::picture};

/// Side of the pictures: what most training is done with.
const SIDE: usize = 512;

/// How long one model may try on one device. A batch that is under way is finished.
const TIME: Duration = Duration::from_secs(10);

/// The largest batch tried. Encoders are full long before.
const LARGEST: usize = 32;

/// A batch of twice the size must be so much faster a picture to be worth its latency and memory.
const GAIN: f64 = 1.05;

/// Tries batches of 1, 2, 4, ... pictures until more gain nothing. `None` if the model cannot encode
/// even one.
pub(crate) fn probe(encoder: &mut dyn Encoder, max_batch: usize) -> Option<Measured> {
    let side = SIDE.next_multiple_of(encoder.spec().size_multiple.max(1));
    let (batch, rate) = search(max_batch.min(LARGEST), |batch| {
        let pixels = picture(batch, side);
        // The first of a size also compiles and tunes what it needs.
        let first = time(encoder, &pixels)?;
        let second = time(encoder, &pixels)?;
        Some((first + second, second))
    })?;
    let pixels = (side * side) as u64;
    Some(Measured {
        batch_pixels: batch as u64 * pixels,
        rate: rate * pixels as f64,
    })
}

fn time(encoder: &mut dyn Encoder, pixels: &Pixels) -> Option<Duration> {
    let start = Instant::now();
    catch(encoder, pixels).ok()?;
    Some(start.elapsed())
}

/// The smallest batch after which doubling gains too little, and its pictures a second. `attempt`
/// says how long trying a batch took in all, and how long one such batch takes; `None` if it
/// failed, for example for want of memory.
fn search(
    largest: usize,
    mut attempt: impl FnMut(usize) -> Option<(Duration, Duration)>,
) -> Option<(usize, f64)> {
    let mut best: Option<(usize, f64)> = None;
    let (mut batch, mut spent) = (1, Duration::ZERO);
    while batch <= largest.max(1) && spent < TIME {
        let Some((tried, takes)) = attempt(batch) else {
            break;
        };
        spent += tried;
        let rate = batch as f64 / takes.as_secs_f64().max(1e-9);
        if best.is_some_and(|(_, before)| rate < before * GAIN) {
            break;
        }
        best = Some((batch, rate));
        batch *= 2;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device with a fixed cost a batch and one a picture, in milliseconds.
    fn device(batch: u64, picture: u64) -> impl FnMut(usize) -> Option<(Duration, Duration)> {
        move |size| {
            let takes = Duration::from_millis(batch + picture * size as u64);
            Some((takes * 2, takes))
        }
    }

    #[test]
    fn it_stops_where_more_gains_nothing() {
        // 16: 8.25 ms a picture. 32: 7.1. 64 would be 6.6 but is past the largest.
        let (batch, rate) = search(32, device(36, 6)).unwrap();
        assert_eq!(batch, 32);
        assert!((rate - 32.0 / 0.228).abs() < 1e-6);
        // 1: 11 ms, 2: 10.5, 4: 10.25.
        assert_eq!(search(32, device(1, 10)).unwrap().0, 1);
        assert_eq!(search(32, device(4, 10)).unwrap().0, 4);
    }

    #[test]
    fn it_keeps_to_the_largest_batch_and_to_its_time() {
        assert_eq!(search(4, device(1000, 1)).unwrap().0, 4);
        assert_eq!(search(0, device(1000, 1)).unwrap().0, 1);
        // Two attempts of 6 s are past the bound.
        let mut attempts = 0;
        let mut slow = device(2990, 10);
        search(32, |batch| {
            attempts += 1;
            slow(batch)
        });
        assert_eq!(attempts, 2);
    }

    #[test]
    fn what_does_not_fit_into_memory_ends_it() {
        let mut good = device(1000, 1);
        let found = search(32, |batch| if batch < 8 { good(batch) } else { None });
        assert_eq!(found.unwrap().0, 4);
        assert_eq!(search(32, |_| None), None);
    }
}
