//! Sines and cosines of the colours, so that the network sees fine differences.

use std::f32::consts::{PI, TAU};

use burn::tensor::{Tensor, backend::Backend};

/// Periods in a unit of colour.
const PERIODS: [f32; 2] = [64.0, 128.0];

/// The part of a turn that products with small numbers leave exact, and the rest.
const TURN: f32 = 6.281_25;
const TURN_REST: f32 = 1.935_307_2e-3;

/// From `[n, h, w, 3]`, in f32, to the colours, the sines of each at both frequencies, and the cosines.
///
/// Angles reach 128 turns, which in f32 leaves little behind the point: so they are rounded exactly as
/// diffusers rounds them, but brought into half a turn before the sine is taken, because not every
/// device's is good for large angles.
pub(super) fn fourier<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [n, h, w, colours] = x.dims();
    let [low, high] = PERIODS.map(|periods| angle(x.clone() * (periods * TAU)));
    let angles = Tensor::cat(
        [low, high]
            .map(|angle| angle.reshape([n, h * w, colours, 1]))
            .to_vec(),
        3,
    );
    let angles = angles.reshape([n, h, w, colours * PERIODS.len()]);
    Tensor::cat(vec![x, angles.clone().sin(), angles.cos()], 3)
}

/// The same angle in [-PI, PI].
fn angle<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let turns = (x.clone() / (2.0 * PI)).round();
    x - turns.clone() * TURN - turns * TURN_REST
}
