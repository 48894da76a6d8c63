//! Parameters of `AutoencoderKLLTXVideo` and `AutoencoderKLLTX2Video`.

use serde::{Deserialize, Serialize};
use serde_json::{Error, Value, json};

use super::{bounds, channels};

/// `AutoencoderKLLTXVideo` and `AutoencoderKLLTX2Video`, as the file has it or with the defaults of its
/// class.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct LtxConfig {
    pub(crate) in_channels: usize,
    pub(crate) latent_channels: usize,
    pub(crate) block_out_channels: Vec<usize>,
    down_block_types: Vec<DownBlock>,
    /// Of every down block, and of the middle.
    layers_per_block: Vec<usize>,
    spatio_temporal_scaling: Scaling,
    downsample_type: Vec<DownType>,
    pub(crate) patch_size: usize,
    patch_size_t: usize,
    pub(crate) resnet_norm_eps: f32,
    pub(crate) scaling_factor: f64,
    encoder_causal: bool,
    /// Of LTX-2.
    encoder_spatial_padding_mode: Padding,
    /// Nothing but tiling goes by it.
    spatial_compression_ratio: Option<usize>,
}

/// What a level is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
enum DownBlock {
    /// Of 0.9.0 and 0.9.1: channels change in a residual block after the down-sampler.
    #[serde(rename = "LTXVideoDownBlock3D")]
    Plain,
    /// Since 0.9.5: they change in the down-sampler.
    #[serde(rename = "LTXVideo095DownBlock3D", alias = "LTX2VideoDownBlock3D")]
    Folding,
}

/// Which levels are sampled down: as the file lists them, or all alike.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Scaling {
    Each(Vec<bool>),
    All(bool),
}

/// How a level of [`DownBlock::Folding`] is sampled down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum DownType {
    Conv,
    Spatial,
    Temporal,
    Spatiotemporal,
}

/// What pads frames at their sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Padding {
    Zeros,
    Replicate,
}

/// A level, as the network is built: `layers` residual blocks of `inputs` channels, then what samples
/// them down to `outputs`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LtxLevel {
    pub(crate) layers: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) down: LtxDown,
}

/// How a level ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LtxDown {
    /// A convolution of stride 2, where the level is sampled down; then a residual block where channels
    /// change.
    Plain { halves: bool },
    /// A convolution of stride 2.
    Conv,
    /// A convolution, then pixels to channels, by these factors in time and in space.
    Fold { time: usize, space: usize },
    /// As it is.
    None,
}

impl LtxDown {
    /// Factors in time and in space.
    const fn factors(self) -> [usize; 2] {
        match self {
            Self::Plain { halves: true } | Self::Conv => [2, 2],
            Self::Plain { halves: false } | Self::None => [1, 1],
            Self::Fold { time, space } => [time, space],
        }
    }
}

impl LtxConfig {
    /// What an `AutoencoderKLLTXVideo` file holds.
    pub(super) fn video(file: &Value) -> Result<Self, Error> {
        let plain = "LTXVideoDownBlock3D";
        let defaults = json!({
            "block_out_channels": [128, 256, 512, 512],
            "down_block_types": [plain, plain, plain, plain],
            "layers_per_block": [4, 3, 3, 3, 4],
            "spatio_temporal_scaling": [true, true, true, false],
            "downsample_type": ["conv", "conv", "conv", "conv"],
        });
        let mut config = Self::with(defaults, file)?;
        // Not a parameter of this class.
        config.encoder_spatial_padding_mode = Padding::Zeros;
        Ok(config)
    }

    /// What an `AutoencoderKLLTX2Video` file holds.
    pub(super) fn video_2(file: &Value) -> Result<Self, Error> {
        let folding = "LTX2VideoDownBlock3D";
        let defaults = json!({
            "block_out_channels": [256, 512, 1024, 2048],
            "down_block_types": [folding, folding, folding, folding],
            "layers_per_block": [4, 6, 6, 2, 2],
            "spatio_temporal_scaling": true,
            "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
        });
        let mut config = Self::with(defaults, file)?;
        // The first convolution leaves as many channels as a latent has, here and nowhere else.
        config.block_out_channels.insert(0, config.latent_channels);
        Ok(config)
    }

    fn with(mut defaults: Value, file: &Value) -> Result<Self, Error> {
        let common = json!({
            "in_channels": 3,
            "latent_channels": 128,
            "patch_size": 4,
            "patch_size_t": 1,
            "resnet_norm_eps": 1e-6,
            "scaling_factor": 1.0,
            "encoder_causal": true,
            "encoder_spatial_padding_mode": "zeros",
            "spatial_compression_ratio": null,
        });
        if let Some(defaults) = defaults.as_object_mut() {
            for more in [&common, file] {
                defaults.extend(more.as_object().cloned().unwrap_or_default());
            }
        }
        Self::deserialize(defaults)
    }

    /// Whether channels change in down-samplers, which takes a last entry in `block_out_channels`.
    fn folds(&self) -> bool {
        self.down_block_types.last() == Some(&DownBlock::Folding)
    }

    /// How many levels there are.
    fn count(&self) -> usize {
        self.block_out_channels.len() - usize::from(self.folds())
    }

    /// The levels, from the finest.
    pub(crate) fn levels(&self) -> Vec<LtxLevel> {
        let outputs = &self.block_out_channels;
        let level = |index: usize| LtxLevel {
            layers: self.layers_per_block[index],
            inputs: outputs[index],
            outputs: outputs[(index + 1).min(outputs.len() - 1)],
            down: self.down(index),
        };
        (0..self.count()).map(level).collect()
    }

    fn down(&self, index: usize) -> LtxDown {
        let halves = match &self.spatio_temporal_scaling {
            Scaling::Each(levels) => levels[index],
            Scaling::All(all) => *all,
        };
        match self.down_block_types[index] {
            DownBlock::Plain => LtxDown::Plain { halves },
            DownBlock::Folding if !halves => LtxDown::None,
            DownBlock::Folding => match self.downsample_type[index] {
                DownType::Conv => LtxDown::Conv,
                DownType::Spatial => LtxDown::Fold { time: 1, space: 2 },
                DownType::Temporal => LtxDown::Fold { time: 2, space: 1 },
                DownType::Spatiotemporal => LtxDown::Fold { time: 2, space: 2 },
            },
        }
    }

    /// Residual blocks in the middle.
    pub(crate) fn mid_layers(&self) -> usize {
        self.layers_per_block.last().copied().unwrap_or_default()
    }

    /// Frames and pixels per cell.
    pub(crate) fn factors(&self) -> [usize; 2] {
        let levels = self.levels();
        let product = |axis: usize| -> usize {
            let factors = levels.iter().map(|level| level.down.factors()[axis]);
            factors.product()
        };
        [product(0), product(1) * self.patch_size]
    }

    /// Whether some level needs sides and lengths that divide evenly.
    pub(crate) fn divides(&self) -> bool {
        let levels = self.levels();
        (levels.iter()).any(|level| matches!(level.down, LtxDown::Fold { .. }))
    }

    /// Pixels per cell as diffusers counts them for tiling.
    pub(crate) fn nominal_cell(&self) -> usize {
        let halved = match &self.spatio_temporal_scaling {
            Scaling::Each(levels) => levels.iter().filter(|&&halves| halves).count(),
            Scaling::All(all) => usize::from(*all) * (self.layers_per_block.len() - 1),
        };
        (self.spatial_compression_ratio).unwrap_or(self.patch_size << halved)
    }

    /// What pads frames at their sides.
    pub(crate) const fn padding(&self) -> Padding {
        self.encoder_spatial_padding_mode
    }

    pub(super) fn fault(&self) -> Option<String> {
        if !self.encoder_causal {
            let fault = "encoder_causal is false: an encoder that looks ahead is not served";
            return Some(fault.to_owned());
        }
        if self.patch_size_t != 1 || !(1..=16).contains(&self.patch_size) {
            return Some(format!(
                "patches of {} frames and {} pixels are not served: no published model has them",
                self.patch_size_t, self.patch_size
            ));
        }
        if self.in_channels != 3 {
            return Some(format!(
                "in_channels {} are not 3 colours",
                self.in_channels
            ));
        }
        bounds(&self.block_out_channels, &self.layers_per_block)
            .or_else(|| channels(&[self.latent_channels]))
            .or_else(|| self.short_list())
            .or_else(|| self.levels().iter().find_map(uneven))
    }

    /// A list that has no entry for some level.
    fn short_list(&self) -> Option<String> {
        let levels = self.count();
        let scaling = match &self.spatio_temporal_scaling {
            Scaling::Each(levels) => levels.len(),
            Scaling::All(_) => levels,
        };
        let lists = [
            ("down_block_types", self.down_block_types.len(), levels),
            ("layers_per_block", self.layers_per_block.len(), levels + 1),
            ("spatio_temporal_scaling", scaling, levels),
            ("downsample_type", self.downsample_type.len(), levels),
        ];
        let (name, length, needed) = lists.into_iter().find(|list| list.1 < list.2)?;
        (levels == 0 || length < needed)
            .then(|| format!("{levels} levels need {needed} values in {name}, which has {length}"))
    }
}

/// Why channels do not come out even, if so.
fn uneven(level: &LtxLevel) -> Option<String> {
    let LtxLevel {
        inputs, outputs, ..
    } = *level;
    let fits = match level.down {
        LtxDown::Plain { .. } => true,
        LtxDown::Conv | LtxDown::None => inputs == outputs,
        LtxDown::Fold { time, space } => {
            let factor = time * space * space;
            outputs % factor == 0 && inputs * factor % outputs == 0
        }
    };
    (!fits).then(|| {
        format!("a level of {inputs} channels does not come out at the {outputs} of the next")
    })
}
