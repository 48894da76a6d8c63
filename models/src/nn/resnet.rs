//! The residual block of the Stable Diffusion family.

use burn::tensor::Tensor;

use super::{Act, Conv2d, ConvShape, GroupNorm, Loader, Ops};
use crate::Error;

/// Every group norm of the family.
pub(crate) const EPS: f32 = 1e-6;

/// `conv2(act(norm2(conv1(act(norm1(x)))))) + shortcut(x)`
#[derive(Debug)]
pub(crate) struct ResnetBlock<B: Ops> {
    pub(crate) norm1: GroupNorm<B>,
    conv1: Conv2d<B>,
    pub(crate) norm2: GroupNorm<B>,
    conv2: Conv2d<B>,
    shortcut: Option<Conv2d<B>>,
    act: Act,
}

impl<B: Ops> ResnetBlock<B> {
    /// Loads the block `name` of `inputs` to `outputs` channels.
    pub(crate) fn load(
        load: &mut Loader<'_, B>,
        name: &str,
        [inputs, outputs]: [usize; 2],
        groups: usize,
        act: Act,
    ) -> Result<Self, Error> {
        let conv = |inputs| ConvShape::same(inputs, outputs, 3);
        Ok(Self {
            norm1: load.group_norm(&format!("{name}.norm1"), inputs, groups, EPS)?,
            conv1: load.conv(&format!("{name}.conv1"), conv(inputs))?,
            norm2: load.group_norm(&format!("{name}.norm2"), outputs, groups, EPS)?,
            conv2: load.conv(&format!("{name}.conv2"), conv(outputs))?,
            shortcut: (inputs != outputs)
                .then(|| {
                    let shape = ConvShape::same(inputs, outputs, 1);
                    load.conv(&format!("{name}.conv_shortcut"), shape)
                })
                .transpose()?,
            act,
        })
    }

    pub(crate) fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let h = self
            .conv1
            .after_norm(x.clone(), &self.norm1, self.act, None);
        let shortcut = match &self.shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };
        self.conv2
            .after_norm(h, &self.norm2, self.act, Some(shortcut))
    }
}
