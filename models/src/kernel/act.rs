//! Activations on slices, in forms that a compiler turns into vector instructions.

use multiversion::multiversion;

/// What is done to every value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing.
    None,
    /// `max(x, 0)`
    Relu,
    /// `x * sigmoid(x)`
    Silu,
}

impl Act {
    /// Applies it in place.
    pub(crate) fn apply(self, values: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Relu => values.iter_mut().for_each(|x| *x = x.max(0.0)),
            Self::Silu => silu(values),
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn silu(values: &mut [f32]) {
    for x in values {
        *x /= 1.0 + exp(-*x);
    }
}

/// `e^x` in f32 within 2 units of the last place, for every x; saturates instead of overflowing.
///
/// `x = k ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` by its Taylor polynomial of degree 7 (the first
/// omitted term is below 6e-9), `2^k` by building its bits. Branch-free, so that loops over it
/// become vector code; `f32::exp` is a call per value.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, so that `k * LN2_HIGH` is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let k = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let mut p = 1.0 / 5040.0;
    for c in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        p = p * r + c;
    }
    p * f32::from_bits(((k as i32 + 127) << 23) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units() {
        for step in -8700_i32..=8800 {
            let x = step as f32 * 0.01;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "{x}: {error:e}");
        }
    }

    #[test]
    fn silu_at_the_ends() {
        let mut values = [-1e4, -100.0, 0.0, 100.0, 1e4, f32::NAN];
        Act::Silu.apply(&mut values);
        assert!(values[0].abs() < 1e-30 && values[1].abs() < 1e-30);
        assert_eq!(values[2..5], [0.0, 100.0, 1e4]);
        assert!(values[5].is_nan());
    }
}
