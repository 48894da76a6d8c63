//! Posterior noise: counter-based, so the same seed gives the same noise whatever the batch, the
//! device or the replica.
//!
//! Bit for bit: Philox4x64-10 (Salmon et al., SC'11) with key `[seed, 0]` and counters
//! `[1, 0, 0, 0]`, `[2, 0, 0, 0]`, ... gives 64-bit words; this is NumPy's
//! `np.random.Philox(key=seed).random_raw(n)`. Words are taken in pairs `(a, b)`; with
//! `u = ((a >> 11) + 1) / 2^53` in (0, 1] and `v = (b >> 11) / 2^53` in [0, 1), Box and Muller's
//! `r = sqrt(-2 ln u)` gives the two values `r cos(2 pi v)` and `r sin(2 pi v)`, in f64, each then
//! rounded to f32. Value `i` goes to element `i` of the latent in `[channels, frames, height, width]`
//! order, before any packing.

use std::f64::consts::TAU;

/// Standard normal values, in order.
pub(crate) struct Normal {
    philox: Philox,
    spare: Option<f32>,
}

impl Normal {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            philox: Philox::new(seed),
            spare: None,
        }
    }

    pub(crate) fn next(&mut self) -> f32 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
        let u = ((self.philox.next() >> 11) + 1) as f64 * UNIT;
        let v = (self.philox.next() >> 11) as f64 * UNIT;
        let radius = (-2.0 * u.ln()).sqrt();
        let (sin, cos) = (TAU * v).sin_cos();
        self.spare = Some((radius * sin) as f32);
        (radius * cos) as f32
    }
}

/// Philox4x64-10.
pub(crate) struct Philox {
    key: u64,
    counter: u64,
    block: [u64; 4],
    used: usize,
}

impl Philox {
    pub(crate) const fn new(key: u64) -> Self {
        Self {
            key,
            counter: 0,
            block: [0; 4],
            used: 4,
        }
    }

    pub(crate) fn next(&mut self) -> u64 {
        if self.used == self.block.len() {
            self.counter += 1;
            self.block = Self::block([self.counter, 0, 0, 0], [self.key, 0]);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    fn block(mut x: [u64; 4], mut key: [u64; 2]) -> [u64; 4] {
        let wide = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            ((product >> 64) as u64, product as u64)
        };
        for _ in 0..10 {
            let (high0, low0) = wide(0xD2E7_470E_E14C_6C93, x[0]);
            let (high1, low1) = wide(0xCA5A_8263_9512_1157, x[2]);
            x = [high1 ^ x[1] ^ key[0], low1, high0 ^ x[3] ^ key[1], low0];
            key[0] = key[0].wrapping_add(0x9E37_79B9_7F4A_7C15);
            key[1] = key[1].wrapping_add(0xBB67_AE85_84CA_A73B);
        }
        x
    }
}
