//! Pixels around a frame.

use burn::tensor::{Tensor, backend::Backend};

/// What is put around a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    Zeros,
    /// The nearest pixel, again and again.
    Replicate,
}

/// Puts so many pixels at the top, left, bottom and right.
pub(crate) fn pad<B: Backend>(
    x: Tensor<B, 4>,
    [top, left, bottom, right]: [usize; 4],
    edge: Edge,
) -> Tensor<B, 4> {
    let x = along(x, 1, [top, bottom], edge);
    along(x, 2, [left, right], edge)
}

fn along<B: Backend>(
    x: Tensor<B, 4>,
    axis: usize,
    [before, after]: [usize; 2],
    edge: Edge,
) -> Tensor<B, 4> {
    let last = x.dims()[axis] - 1;
    let lines = |at: usize, count: usize| {
        let line = x.clone().narrow(axis, at, 1);
        let line = match edge {
            Edge::Zeros => line.zeros_like(),
            Edge::Replicate => line,
        };
        (count > 0).then(|| line.repeat_dim(axis, count))
    };
    let parts = [lines(0, before), Some(x.clone()), lines(last, after)];
    Tensor::cat(parts.into_iter().flatten().collect(), axis)
}
