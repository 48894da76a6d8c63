//! `AutoencoderDC`, the deep-compression autoencoder of SANA.

mod attention;
mod gated;

use burn::tensor::Tensor;

use crate::{
    Error,
    config::{BlockType, DcConfig},
    model::Family,
    nn::{Act, Conv2d, ConvShape, Floor, Loader, Ops, Order, RmsNorm, group_mean, space_to_depth},
};
use attention::MultiscaleAttention;
use gated::GatedConv;

/// What the mean of squares is raised by in every norm.
const FLOOR: Floor = Floor::MeanSquare(1e-5);

/// The encoder.
#[derive(Debug)]
pub(crate) struct Dc<B: Ops> {
    stem: Stem<B>,
    layers: Vec<Layer<B>>,
    conv_out: Conv2d<B>,
    latent_channels: usize,
    out_shortcut: bool,
}

/// The first layer: at full resolution, or halving it where the first stage is empty.
#[derive(Debug)]
enum Stem<B: Ops> {
    Conv(Conv2d<B>),
    Down(Down<B>),
}

#[allow(
    clippy::large_enum_variant,
    reason = "some dozens of them in a model, in one vector"
)]
#[derive(Debug)]
enum Layer<B: Ops> {
    Residual(Residual<B>),
    EfficientVit(MultiscaleAttention<B>, GatedConv<B>),
    Down(Down<B>),
}

/// `norm(conv2(silu(conv1(x)))) + x`
#[derive(Debug)]
struct Residual<B: Ops> {
    conv1: Conv2d<B>,
    conv2: Conv2d<B>,
    norm: RmsNorm<B>,
}

/// A convolution that halves the sides, plus the means of the pixels that it merges.
#[derive(Debug)]
struct Down<B: Ops> {
    conv: Conv2d<B>,
    outputs: usize,
    unshuffles: bool,
    shortcut: bool,
}

impl<B: Ops> Dc<B> {
    pub(crate) fn load(load: &mut Loader<'_, B>, config: &DcConfig) -> Result<Self, Error> {
        let channels = &config.encoder_block_out_channels;
        let layers_per_block = &config.encoder_layers_per_block;
        let name = "encoder.conv_in";
        let stem = match (layers_per_block[0], channels.get(1)) {
            (0, Some(&second)) => {
                let down = Down::load(load, name, [config.in_channels, second], config)?;
                Stem::Down(Down {
                    shortcut: false,
                    ..down
                })
            }
            _ => {
                let shape = ConvShape::same(config.in_channels, channels[0], 3);
                Stem::Conv(load.conv(name, shape)?)
            }
        };
        let mut layers = Vec::new();
        for (stage, &width) in channels.iter().enumerate() {
            let count = layers_per_block[stage];
            let name = |layer| format!("encoder.down_blocks.{stage}.{layer}");
            for layer in 0..count {
                let name = name(layer);
                layers.push(match config.block(stage) {
                    BlockType::Residual => Layer::Residual(Residual::load(load, &name, width)?),
                    BlockType::EfficientVit => {
                        let scales = &config.encoder_qkv_multiscales[stage];
                        let heads = [width, config.attention_head_dim];
                        let attn = format!("{name}.attn");
                        Layer::EfficientVit(
                            MultiscaleAttention::load(load, &attn, heads, scales)?,
                            GatedConv::load(load, &format!("{name}.conv_out"), width)?,
                        )
                    }
                });
            }
            if let (1.., Some(&next)) = (count, channels.get(stage + 1)) {
                layers.push(Layer::Down(Down::load(
                    load,
                    &name(count),
                    [width, next],
                    config,
                )?));
            }
        }
        let last = channels[channels.len() - 1];
        let conv_out = ConvShape::same(last, config.latent_channels, 3);
        Ok(Self {
            stem,
            layers,
            conv_out: load.conv("encoder.conv_out", conv_out)?,
            latent_channels: config.latent_channels,
            out_shortcut: config.encoder_out_shortcut,
        })
    }
}

impl<B: Ops> Family<B> for Dc<B> {
    fn encode(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let x = match &self.stem {
            Stem::Conv(conv) => conv.forward(x),
            Stem::Down(down) => down.forward(x),
        };
        let x = self.layers.iter().fold(x, |x, layer| match layer {
            Layer::Residual(block) => block.forward(x),
            Layer::EfficientVit(attention, gated) => gated.forward(attention.forward(x)),
            Layer::Down(down) => down.forward(x),
        });
        match self.out_shortcut {
            true => {
                let around = group_mean(x.clone(), self.latent_channels);
                self.conv_out.add(x, around, Act::None)
            }
            false => self.conv_out.forward(x),
        }
    }
}

impl<B: Ops> Residual<B> {
    fn load(load: &mut Loader<'_, B>, name: &str, channels: usize) -> Result<Self, Error> {
        let shape = ConvShape::same(channels, channels, 3);
        Ok(Self {
            conv1: load.conv(&format!("{name}.conv1"), shape)?,
            conv2: load.conv(&format!("{name}.conv2"), shape.without_bias())?,
            norm: load.rms_norm(&format!("{name}.norm"), channels, FLOOR)?,
        })
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let h = self.conv1.then(x.clone(), Act::Silu);
        B::rms_norm(self.conv2.forward(h), &self.norm, Act::None) + x
    }
}

impl<B: Ops> Down<B> {
    fn load(
        load: &mut Loader<'_, B>,
        name: &str,
        [inputs, outputs]: [usize; 2],
        config: &DcConfig,
    ) -> Result<Self, Error> {
        let unshuffles = config.unshuffles();
        let shape = match unshuffles {
            true => ConvShape::same(inputs, outputs / 4, 3),
            false => ConvShape::halve_symmetric(inputs, outputs),
        };
        Ok(Self {
            conv: load.conv(&format!("{name}.conv"), shape)?,
            outputs,
            unshuffles,
            shortcut: true,
        })
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let around = self.shortcut.then(|| {
            let x = space_to_depth(x.clone(), 2, Order::Cyx);
            group_mean(x, self.outputs)
        });
        match (self.unshuffles, around) {
            (false, Some(around)) => self.conv.add(x, around, Act::None),
            (false, None) => self.conv.forward(x),
            (true, around) => {
                let x = space_to_depth(self.conv.forward(x), 2, Order::Cyx);
                match around {
                    Some(around) => x + around,
                    None => x,
                }
            }
        }
    }
}
