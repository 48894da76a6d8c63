//! Root-mean-square norms over the channels of a pixel.

use burn::tensor::{FloatDType, Tensor, backend::Backend};

use super::Act;

/// How the length of a pixel's channels is bounded away from zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Floor {
    /// `sqrt(sum of squares)`, at least this. Wan's.
    Length(f32),
    /// This is added to the mean of squares. DC-AE's.
    MeanSquare(f32),
}

/// `x / rms(x) * gamma + beta`
#[derive(Debug)]
pub(crate) struct RmsNorm<B: Backend> {
    /// Scale, `[channels]`, always f32.
    pub(crate) gamma: Tensor<B, 1>,
    /// Shift, `[channels]`, always f32.
    pub(crate) beta: Tensor<B, 1>,
    pub(crate) floor: Floor,
}

/// `act(norm(x))` in burn's own ops, with statistics in f32.
pub(crate) fn plain_rms_norm<B: Backend>(
    x: Tensor<B, 4>,
    norm: &RmsNorm<B>,
    act: Act,
) -> Tensor<B, 4> {
    let dtype = x.dtype();
    let c = x.dims()[3];
    let x = x.cast(FloatDType::F32);
    let squares = x.clone().square();
    let rms = match norm.floor {
        Floor::Length(least) => {
            let length = squares.sum_dim(3).sqrt().clamp_min(least);
            length / (c as f32).sqrt()
        }
        Floor::MeanSquare(eps) => (squares.mean_dim(3) + eps).sqrt(),
    };
    let channels = |t: &Tensor<B, 1>| t.clone().reshape([1, 1, 1, c]);
    let x = x / rms * channels(&norm.gamma) + channels(&norm.beta);
    act.apply(x).cast(dtype)
}
