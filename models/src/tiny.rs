//! `AutoencoderTiny`: TAESD and its relatives. No norms, no posterior.

use burn::tensor::Tensor;

use crate::{
    Error,
    config::TinyConfig,
    model::Family,
    nn::{Act, Conv2d, ConvShape, Loader, Ops},
};

/// The encoder.
#[derive(Debug)]
pub(crate) struct Tiny<B: Ops> {
    layers: Vec<Layer<B>>,
}

#[derive(Debug)]
enum Layer<B: Ops> {
    Conv(Conv2d<B>),
    Block(Block<B>),
}

/// `relu(conv(act(conv(act(conv(x))))) + x)`
#[derive(Debug)]
struct Block<B: Ops> {
    convs: [Conv2d<B>; 3],
    act: Act,
}

impl<B: Ops> Tiny<B> {
    pub(crate) fn load(load: &mut Loader<'_, B>, config: &TinyConfig) -> Result<Self, Error> {
        let mut layers = Vec::new();
        let name = |layers: &Vec<_>| format!("encoder.layers.{}", layers.len());
        let channels = config.encoder_block_out_channels[0];
        for (stage, &blocks) in config.num_encoder_blocks.iter().enumerate() {
            let shape = match stage {
                0 => ConvShape::same(config.in_channels, channels, 3),
                _ => ConvShape::halve_symmetric(channels, channels).without_bias(),
            };
            layers.push(Layer::Conv(load.conv(&name(&layers), shape)?));
            for _ in 0..blocks {
                let block = Block::load(load, &name(&layers), channels, config.act_fn)?;
                layers.push(Layer::Block(block));
            }
        }
        let last = ConvShape::same(channels, config.latent_channels, 3);
        layers.push(Layer::Conv(load.conv(&name(&layers), last)?));
        Ok(Self { layers })
    }
}

impl<B: Ops> Family<B> for Tiny<B> {
    fn encode(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        // This class was trained on [0, 1].
        let x = x.add_scalar(1.0).div_scalar(2.0);
        self.layers.iter().fold(x, |x, layer| match layer {
            Layer::Conv(conv) => conv.forward(x),
            Layer::Block(block) => block.forward(x),
        })
    }
}

impl<B: Ops> Block<B> {
    fn load(
        load: &mut Loader<'_, B>,
        name: &str,
        channels: usize,
        act: Act,
    ) -> Result<Self, Error> {
        let mut conv = |index| {
            let shape = ConvShape::same(channels, channels, 3);
            load.conv(&format!("{name}.conv.{index}"), shape)
        };
        let convs = [conv(0)?, conv(2)?, conv(4)?];
        Ok(Self { convs, act })
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [first, second, third] = &self.convs;
        let h = first.then(x.clone(), self.act);
        let h = second.then(h, self.act);
        third.add(h, x, Act::Relu)
    }
}
