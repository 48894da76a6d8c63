//! The gated convolution that follows every attention of DC-AE.

use burn::tensor::{Tensor, activation::silu};

use super::FLOOR;
use crate::{
    Error,
    nn::{Act, Conv2d, ConvShape, Loader, Ops, RmsNorm},
};

/// `norm(point(a * silu(g))) + x` with `[a, g] = depth(silu(inverted(x)))`
#[derive(Debug)]
pub(super) struct GatedConv<B: Ops> {
    inverted: Conv2d<B>,
    depth: Conv2d<B>,
    point: Conv2d<B>,
    norm: RmsNorm<B>,
}

impl<B: Ops> GatedConv<B> {
    pub(super) fn load(
        load: &mut Loader<'_, B>,
        name: &str,
        channels: usize,
    ) -> Result<Self, Error> {
        let hidden = 4 * channels;
        let depth = ConvShape::same(2 * hidden, 2 * hidden, 3).depthwise();
        let point = ConvShape::same(hidden, channels, 1).without_bias();
        let inverted = ConvShape::same(channels, 2 * hidden, 1);
        Ok(Self {
            inverted: load.conv(&format!("{name}.conv_inverted"), inverted)?,
            depth: load.conv(&format!("{name}.conv_depth"), depth)?,
            point: load.conv(&format!("{name}.conv_point"), point)?,
            norm: load.rms_norm(&format!("{name}.norm"), channels, FLOOR)?,
        })
    }

    pub(super) fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let h = self.depth.forward(self.inverted.then(x.clone(), Act::Silu));
        let half = h.dims()[3] / 2;
        let gate = silu(h.clone().narrow(3, half, half));
        let h = self.point.forward(h.narrow(3, 0, half) * gate);
        B::rms_norm(h, &self.norm, Act::None) + x
    }
}
