//! A keyed permutation with random access: where position `i` of a shuffled list points.
//!
//! A Feistel network over pairs `(left, right)` from `0..a` and `0..b`, where `a * b` is the least
//! product of two nearly equal sides that holds the list. Each round adds to one half, modulo its
//! side, a keyed hash of the other, which can be undone, so the whole is a permutation of
//! `0..a * b`. Results beyond the list's end are fed back in until one falls inside (cycle
//! walking), which is again a permutation. Nothing is stored and nothing is skipped, so resuming
//! anywhere costs the same. (Sides that are powers of two would spare a division and cost up to
//! four times the walking.)

use std::array;

use super::seeds::mix;

/// More rounds than four, which are enough for a secret key and long lists: short lists mix less
/// in each of them. Even, because halves take turns.
const ROUNDS: usize = 6;
/// Even a list of two is walked inside 64 values: smaller networks are badly mixed.
const MIN_SIDE: u64 = 8;

/// Positions that go through the network side by side.
const LANES: usize = 4;

/// A permutation of `0..len`.
#[derive(Clone, Debug)]
pub struct Permutation {
    len: u64,
    sides: [u64; 2],
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of `0..len` named `key`.
    ///
    /// # Panics
    /// Past 2^62 entries.
    pub fn new(len: u64, key: u64) -> Self {
        assert!(len <= 1 << 62, "a list of {len} entries");
        let root = len.isqrt();
        let left = (root + u64::from(root * root < len)).max(MIN_SIDE);
        let right = len.div_ceil(left).max(MIN_SIDE);
        let mut state = key;
        let keys = array::from_fn(|_| {
            state = mix(state);
            state
        });
        Self {
            len,
            sides: [left, right],
            keys,
        }
    }

    /// What stands at position `index`.
    ///
    /// # Panics
    /// If `index` is not below the length.
    pub fn get(&self, index: u64) -> u64 {
        assert!(index < self.len, "position {index} of {}", self.len);
        let [value] = self.network([index]);
        self.walk(value)
    }

    /// What stands at all positions, in less time: each step through the network waits for the one before
    /// it, so several positions go side by side.
    pub fn all(&self) -> Vec<u64> {
        let mut all: Vec<u64> = (0..self.len).collect();
        let (chunks, rest) = all.as_chunks_mut::<LANES>();
        for values in chunks {
            *values = self.network(*values);
            for value in values {
                *value = self.walk(*value);
            }
        }
        for index in rest {
            *index = self.get(*index);
        }
        all
    }

    /// Follows a result of the network until it is inside. Ends: the network is a permutation, so walking
    /// returns to where it began at the latest.
    fn walk(&self, mut value: u64) -> u64 {
        while value >= self.len {
            [value] = self.network([value]);
        }
        value
    }

    fn network<const N: usize>(&self, values: [u64; N]) -> [u64; N] {
        let [a, b] = self.sides;
        let mut left = values.map(|value| value / b);
        let mut right: [_; N] = array::from_fn(|lane| values[lane] - left[lane] * b);
        for keys in self.keys.chunks_exact(2) {
            for lane in 0..N {
                left[lane] = add(left[lane], mix(right[lane] ^ keys[0]), a);
            }
            for lane in 0..N {
                right[lane] = add(right[lane], mix(left[lane] ^ keys[1]), b);
            }
        }
        array::from_fn(|lane| left[lane] * b + right[lane])
    }
}

/// `value` plus a hash scaled to `0..side`, modulo `side`.
fn add(value: u64, hash: u64, side: u64) -> u64 {
    let scaled = ((u128::from(hash) * u128::from(side)) >> 64) as u64;
    let sum = value + scaled;
    // Below the side it wraps to a large number. A branch would be taken half of the time, at random.
    sum.min(sum.wrapping_sub(side))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_a_bijection(len in 1_u64..3000, key: u64) {
            let order = Permutation::new(len, key);
            let mut seen: Vec<u64> = (0..len).map(|index| order.get(index)).collect();
            prop_assert_eq!(&order.all(), &seen);
            seen.sort_unstable();
            prop_assert!(seen.iter().copied().eq(0..len));
        }

        #[test]
        fn stays_inside_long_lists(len in 1_u64..1 << 62, key: u64, at: u64) {
            prop_assert!(Permutation::new(len, key).get(at % len) < len);
        }
    }

    #[test]
    fn no_two_keys_share_an_order() {
        let order = |key| -> Vec<u64> {
            let order = Permutation::new(1000, key);
            (0..1000).map(|index| order.get(index)).collect()
        };
        let shared = (0..1000).filter(|&at| order(1)[at] == order(2)[at]).count();
        assert!(shared < 10, "{shared} of 1000 positions agree, 1 expected");
    }

    /// Chi-squared over where each entry lands, and over which entry follows it.
    #[test]
    fn is_well_mixed() {
        for len in [5_usize, 37, 64, 100] {
            let keys = 4000;
            let mut lands = vec![0_f64; len * len];
            let mut steps = vec![0_f64; len];
            for key in 0..keys {
                let order = Permutation::new(len as u64, mix(key));
                let list: Vec<usize> = (0..len as u64).map(|i| order.get(i) as usize).collect();
                for (at, &value) in list.iter().enumerate() {
                    lands[at * len + value] += 1.0;
                }
                for pair in list.windows(2) {
                    steps[(pair[1] + len - pair[0]) % len] += 1.0;
                }
            }
            let chi = |cells: &[f64]| {
                let mean = cells.iter().sum::<f64>() / cells.len() as f64;
                let sum: f64 = cells.iter().map(|c| (c - mean).powi(2) / mean).sum();
                // Standard deviations from what chance gives.
                (sum - cells.len() as f64) / (2.0 * cells.len() as f64).sqrt()
            };
            assert!(chi(&lands) < 5.0, "{len}: {}", chi(&lands));
            assert!(chi(&steps[1..]) < 5.0, "{len}: {}", chi(&steps[1..]));
        }
    }
}
