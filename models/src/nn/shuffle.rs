//! Pixels to channels, and means over groups of channels. None of these has parameters.

use burn::tensor::{Tensor, backend::Backend};

/// The order of the new channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Channel, row, column: PyTorch's `pixel_unshuffle`.
    Cyx,
    /// Channel, column, row: the patches of Wan and LTX.
    Cxy,
    /// Row, column, channel.
    #[allow(dead_code, reason = "classes that do are on their way")]
    Yxc,
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
        Order::Yxc => [0, 1, 3, 2, 4, 5],
    };
    x.reshape([n, h, factor, w, factor, c])
        .permute(axes)
        .reshape([n, h, w, c * factor * factor])
}

/// Every `factor` frames become one of `factor` times the channels. Before the rows and columns are
/// folded, with the channel first: channel, frame, (row, column). After them, with the frame first:
/// frame, (row, column,) channel.
pub(crate) fn time_to_depth<B: Backend>(
    x: Tensor<B, 4>,
    factor: usize,
    channel_first: bool,
) -> Tensor<B, 4> {
    if factor == 1 {
        return x;
    }
    let [n, h, w, c] = x.dims();
    let axes = match channel_first {
        true => [0, 2, 3, 4, 1],
        false => [0, 2, 3, 1, 4],
    };
    x.reshape([n / factor, factor, h, w, c])
        .permute(axes)
        .reshape([n / factor, h, w, factor * c])
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
