//! Pixels to channels, and means over groups of channels. None of these has parameters.

use burn::tensor::{Tensor, backend::Backend};

/// The order of the new channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Channel, row, column: PyTorch's `pixel_unshuffle`.
    Cyx,
    /// Channel, column, row: Wan's patches.
    Cxy,
}

/// Every `factor` by `factor` pixels become one pixel of `factor * factor` times the channels.
pub(crate) fn space_to_depth<B: Backend>(
    x: Tensor<B, 4>,
    factor: usize,
    order: Order,
) -> Tensor<B, 4> {
    if factor == 1 {
        return x;
    }
    let [n, h, w, c] = x.dims();
    let (h, w) = (h / factor, w / factor);
    let axes = match order {
        Order::Cyx => [0, 1, 3, 5, 2, 4],
        Order::Cxy => [0, 1, 3, 5, 4, 2],
    };
    x.reshape([n, h, factor, w, factor, c])
        .permute(axes)
        .reshape([n, h, w, c * factor * factor])
}

/// Output channel `j` is the mean of the `j`-th group of neighbouring channels.
pub(crate) fn group_mean<B: Backend>(x: Tensor<B, 4>, channels: usize) -> Tensor<B, 4> {
    let [n, h, w, c] = x.dims();
    if c == channels {
        return x;
    }
    x.reshape([n, h, w, channels, c / channels])
        .mean_dim(4)
        .reshape([n, h, w, channels])
}
