//! The noise of posterior draws, as replicas make it.
//!
//! Bit for bit: Philox4x64-10 (Salmon et al., SC'11) with key `[seed, 0]` and counters
//! `[1, 0, 0, 0]`, `[2, 0, 0, 0]`, ... gives 64-bit words; this is NumPy's
//! `np.random.Philox(key=seed).random_raw(n)`. Words are taken in pairs `(a, b)`; with
//! `u = ((a >> 11) + 1) / 2^53` and `v = (b >> 11) / 2^53`, Box and Muller's `r = sqrt(-2 ln u)` gives
//! the two values `r cos(2 pi v)` and `r sin(2 pi v)`, in f64, each then rounded to f32.

use std::f64::consts::TAU;

/// Fills `values` with standard normal ones.
pub(crate) fn fill(seed: u64, values: &mut [f32]) {
    const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
    // A block of four words makes four values.
    for (block, values) in (1..).zip(values.chunks_mut(4)) {
        let words = philox([block, 0, 0, 0], [seed, 0]);
        for (pair, values) in words.chunks_exact(2).zip(values.chunks_mut(2)) {
            let u = ((pair[0] >> 11) + 1) as f64 * UNIT;
            let v = (pair[1] >> 11) as f64 * UNIT;
            let radius = (-2.0 * u.ln()).sqrt();
            let (sin, cos) = (TAU * v).sin_cos();
            for (value, drawn) in values.iter_mut().zip([radius * cos, radius * sin]) {
                *value = drawn as f32;
            }
        }
    }
}

/// Ten rounds of Philox4x64.
fn philox(mut x: [u64; 4], mut key: [u64; 2]) -> [u64; 4] {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the models crate draws for seed 7, held to the same values by its own tests.
    const NOISE_7: [f32; 8] = [
        -0.14712793,
        0.50211215,
        -1.091101,
        0.73758703,
        -0.73446286,
        -2.1076498,
        -1.1331282,
        -1.0716331,
    ];

    #[test]
    fn it_is_the_replicas_noise() {
        for count in 0..=8 {
            let mut values = vec![0.0; count];
            fill(7, &mut values);
            assert_eq!(values, NOISE_7[..count]);
        }
    }
}
