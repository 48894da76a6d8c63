//! `AutoencoderKL`: Stable Diffusion 1 to 3.5, SDXL, FLUX.1 and their many relatives.

use burn::tensor::Tensor;

use crate::{
    Error,
    config::{DownBlock, KlConfig},
    model::Family,
    nn::{Act, Attention, Conv2d, ConvShape, GroupNorm, Loader, Ops, ResnetBlock},
};

const EPS: f32 = 1e-6;

/// The encoder and its `quant_conv`.
#[derive(Debug)]
pub(crate) struct Kl<B: Ops> {
    conv_in: Conv2d<B>,
    stages: Vec<Stage<B>>,
    mid: Mid<B>,
    norm_out: GroupNorm<B>,
    conv_out: Conv2d<B>,
    quant_conv: Option<Conv2d<B>>,
}

/// Residual blocks at one resolution, each with its attention where the stage has them.
#[derive(Debug)]
struct Stage<B: Ops> {
    blocks: Vec<(ResnetBlock<B>, Option<Attention<B>>)>,
    downsample: Option<Conv2d<B>>,
}

/// The middle: residual block, attention, residual block.
#[derive(Debug)]
struct Mid<B: Ops> {
    first: ResnetBlock<B>,
    attention: Option<Attention<B>>,
    second: ResnetBlock<B>,
}

impl<B: Ops> Kl<B> {
    pub(crate) fn load(load: &mut Loader<'_, B>, config: &KlConfig) -> Result<Self, Error> {
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let moments = 2 * config.latent_channels;
        let conv_in = ConvShape::same(config.in_channels, first, 3);
        Ok(Self {
            conv_in: load.conv("encoder.conv_in", conv_in)?,
            stages: (0..channels.len())
                .map(|index| Stage::load(load, config, index))
                .collect::<Result<_, _>>()?,
            mid: Mid::load(load, config, last)?,
            norm_out: load.group_norm(
                "encoder.conv_norm_out",
                last,
                config.norm_num_groups,
                EPS,
            )?,
            conv_out: load.conv("encoder.conv_out", ConvShape::same(last, moments, 3))?,
            quant_conv: match config.use_quant_conv {
                true => Some(load.conv("quant_conv", ConvShape::same(moments, moments, 1))?),
                false => None,
            },
        })
    }
}

impl<B: Ops> Family<B> for Kl<B> {
    fn encode(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let x = self.conv_in.forward(x);
        let x = self.stages.iter().fold(x, |x, stage| stage.forward(x));
        let x = self.mid.forward(x);
        let x = self.conv_out.after_norm(x, &self.norm_out, Act::Silu, None);
        match &self.quant_conv {
            Some(conv) => conv.forward(x),
            None => x,
        }
    }
}

impl<B: Ops> Stage<B> {
    fn load(load: &mut Loader<'_, B>, config: &KlConfig, index: usize) -> Result<Self, Error> {
        let channels = config.block_out_channels[index];
        let before = config.block_out_channels[index.saturating_sub(1)];
        let name = format!("encoder.down_blocks.{index}");
        let groups = config.norm_num_groups;
        let mut block = |layer: usize| {
            let inputs = if layer == 0 { before } else { channels };
            let resnet = format!("{name}.resnets.{layer}");
            let resnet =
                ResnetBlock::load(load, &resnet, [inputs, channels], groups, config.act_fn)?;
            let attention = match config.down_block_types[index] {
                DownBlock::Plain => None,
                DownBlock::Attention => {
                    let name = format!("{name}.attentions.{layer}");
                    Some(Attention::load(load, &name, channels, groups)?)
                }
            };
            Ok((resnet, attention))
        };
        let blocks = (0..config.layers_per_block)
            .map(&mut block)
            .collect::<Result<_, Error>>()?;
        let downsample = (index + 1 < config.block_out_channels.len())
            .then(|| {
                let name = format!("{name}.downsamplers.0.conv");
                load.conv(&name, ConvShape::halve_asymmetric(channels))
            })
            .transpose()?;
        Ok(Self { blocks, downsample })
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let x = self.blocks.iter().fold(x, |x, (resnet, attention)| {
            let x = resnet.forward(x);
            match attention {
                Some(attention) => attention.forward(x),
                None => x,
            }
        });
        match &self.downsample {
            Some(conv) => conv.forward(x),
            None => x,
        }
    }
}

impl<B: Ops> Mid<B> {
    fn load(load: &mut Loader<'_, B>, config: &KlConfig, channels: usize) -> Result<Self, Error> {
        let (groups, act) = (config.norm_num_groups, config.act_fn);
        let resnet = |load: &mut Loader<'_, B>, index| {
            let name = format!("encoder.mid_block.resnets.{index}");
            ResnetBlock::load(load, &name, [channels; 2], groups, act)
        };
        let name = "encoder.mid_block.attentions.0";
        Ok(Self {
            first: resnet(load, 0)?,
            attention: match config.mid_block_add_attention {
                true => Some(Attention::load(load, name, channels, groups)?),
                false => None,
            },
            second: resnet(load, 1)?,
        })
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let x = self.first.forward(x);
        let x = match &self.attention {
            Some(attention) => attention.forward(x),
            None => x,
        };
        self.second.forward(x)
    }
}

#[cfg(test)]
mod tests;
