//! Layer normalisation over the channels of a pixel.

use burn::tensor::{FloatDType, Tensor, backend::Backend};

/// `(x - mean(x)) / sqrt(variance(x) + eps) * gamma + beta`
#[derive(Debug)]
pub(crate) struct LayerNorm<B: Backend> {
    /// Scale, `[channels]`, always f32.
    pub(crate) gamma: Tensor<B, 1>,
    /// Shift, `[channels]`, always f32.
    pub(crate) beta: Tensor<B, 1>,
    /// Added to the variance.
    pub(crate) eps: f32,
}

impl<B: Backend> LayerNorm<B> {
    /// In burn's own ops, with statistics in f32.
    pub(crate) fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let dtype = x.dtype();
        let c = x.dims()[3];
        let x = x.cast(FloatDType::F32);
        let x = x.clone() - x.mean_dim(3);
        let variance = x.clone().square().mean_dim(3);
        let x = x / (variance + self.eps).sqrt();
        let channels = |t: &Tensor<B, 1>| t.clone().reshape([1, 1, 1, c]);
        let x = x * channels(&self.gamma) + channels(&self.beta);
        x.cast(dtype)
    }
}
