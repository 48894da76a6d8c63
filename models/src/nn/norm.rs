//! Group normalisation.

use burn::tensor::{Tensor, backend::Backend};

/// Parameters of a group norm; `Ops` has what is done with them.
#[derive(Debug)]
pub(crate) struct GroupNorm<B: Backend> {
    /// Scale, `[channels]`, always f32.
    pub(crate) gamma: Tensor<B, 1>,
    /// Shift, `[channels]`, always f32.
    pub(crate) beta: Tensor<B, 1>,
    /// Channels are normalised in this many groups.
    pub(crate) groups: usize,
    /// Added to the variance.
    pub(crate) eps: f32,
}
