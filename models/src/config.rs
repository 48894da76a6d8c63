//! `config.json`: the class, and its parameters with diffusers' defaults for what the file omits.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Error, LatentNorm, nn::Act};

/// The classes that are served, as errors list them.
const SERVED: [&str; 2] = ["AutoencoderKL", "AutoencoderTiny"];

/// Bounds that no published VAE comes near; past them a config is taken for damage.
const MAX_CHANNELS: usize = 1 << 14;
const MAX_BLOCKS: usize = 16;
const MAX_LAYERS: usize = 64;

/// A config, normalised: defaults filled in, keys that do not bear on the encoder left out.
#[derive(Debug, Serialize)]
pub(crate) enum Config {
    Kl(KlConfig),
    Tiny(TinyConfig),
}

/// `AutoencoderKL`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct KlConfig {
    pub(crate) in_channels: usize,
    pub(crate) down_block_types: Vec<DownBlock>,
    pub(crate) block_out_channels: Vec<usize>,
    pub(crate) layers_per_block: usize,
    pub(crate) act_fn: Act,
    pub(crate) latent_channels: usize,
    pub(crate) norm_num_groups: usize,
    pub(crate) use_quant_conv: bool,
    pub(crate) mid_block_add_attention: bool,
    pub(crate) scaling_factor: f64,
    pub(crate) shift_factor: Option<f64>,
    pub(crate) latents_mean: Option<Vec<f32>>,
    pub(crate) latents_std: Option<Vec<f32>>,
}

/// What a stage of `AutoencoderKL` is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum DownBlock {
    /// Residual blocks, then the down-sampler.
    #[serde(rename = "DownEncoderBlock2D")]
    Plain,
    /// The same with an attention after every residual block.
    #[serde(rename = "AttnDownEncoderBlock2D")]
    Attention,
}

/// `AutoencoderTiny`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct TinyConfig {
    pub(crate) in_channels: usize,
    pub(crate) encoder_block_out_channels: Vec<usize>,
    pub(crate) num_encoder_blocks: Vec<usize>,
    pub(crate) act_fn: Act,
    pub(crate) latent_channels: usize,
    pub(crate) scaling_factor: f64,
    pub(crate) shift_factor: Option<f64>,
}

impl Config {
    /// Reads `dir/config.json`.
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let text = fs::read(&path).map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        let bad = |reason: String| Error::BadCheckpoint {
            path: path.clone(),
            reason,
        };
        let json: Value =
            serde_json::from_slice(&text).map_err(|error| bad(format!("not JSON: {error}")))?;
        let class = json.get("_class_name").and_then(Value::as_str);
        let config = match class {
            Some("AutoencoderKL") => Self::Kl(parse(&json).map_err(bad)?),
            Some("AutoencoderTiny") => Self::Tiny(parse(&json).map_err(bad)?),
            Some(class) => {
                return Err(Error::UnknownClass {
                    path,
                    class: class.to_owned(),
                    served: SERVED.join(", "),
                });
            }
            None => {
                return Err(bad(
                    "no `_class_name`: is this the folder of a VAE in the diffusers layout?"
                        .to_owned(),
                ));
            }
        };
        match config.fault() {
            Some(reason) => Err(bad(reason)),
            None => Ok(config),
        }
    }

    /// The class name, as in the file.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Kl(_) => SERVED[0],
            Self::Tiny(_) => SERVED[1],
        }
    }

    /// What makes the parameters impossible, if anything.
    fn fault(&self) -> Option<String> {
        match self {
            Self::Kl(config) => config.fault(),
            Self::Tiny(config) => config.fault(),
        }
    }
}

impl KlConfig {
    /// How a raw latent becomes what the diffusion model sees.
    pub(crate) fn latent_norm(&self) -> LatentNorm {
        let scale = self.scaling_factor as f32;
        match (&self.latents_mean, &self.latents_std) {
            (Some(mean), Some(std)) => LatentNorm::MeanStd {
                mean: mean.clone(),
                std: std.clone(),
                scale,
            },
            _ => LatentNorm::ShiftScale {
                shift: self.shift_factor.unwrap_or(0.0) as f32,
                scale,
            },
        }
    }

    fn fault(&self) -> Option<String> {
        let blocks = self.block_out_channels.len();
        if self.down_block_types.len() != blocks {
            return Some(format!(
                "{} down_block_types but {blocks} block_out_channels",
                self.down_block_types.len()
            ));
        }
        let groups = self.norm_num_groups;
        let uneven = |&&c: &&usize| groups == 0 || c % groups != 0;
        if let Some(c) = self.block_out_channels.iter().find(uneven) {
            return Some(format!(
                "{c} channels do not divide into {groups} norm groups"
            ));
        }
        let wrong =
            |v: &Option<Vec<f32>>| v.as_ref().is_some_and(|v| v.len() != self.latent_channels);
        if wrong(&self.latents_mean) || wrong(&self.latents_std) {
            return Some(format!(
                "latents_mean and latents_std need {} values each",
                self.latent_channels
            ));
        }
        bounds(&self.block_out_channels, &[self.layers_per_block])
            .or_else(|| channels(&[self.in_channels, self.latent_channels]))
    }
}

impl TinyConfig {
    /// How a raw latent becomes what the diffusion model sees.
    pub(crate) fn latent_norm(&self) -> LatentNorm {
        LatentNorm::ShiftScale {
            shift: self.shift_factor.unwrap_or(0.0) as f32,
            scale: self.scaling_factor as f32,
        }
    }

    fn fault(&self) -> Option<String> {
        let stages = &self.encoder_block_out_channels;
        if stages.len() != self.num_encoder_blocks.len() {
            return Some(format!(
                "{} encoder_block_out_channels but {} num_encoder_blocks",
                stages.len(),
                self.num_encoder_blocks.len()
            ));
        }
        if stages.iter().any(|&c| c != stages[0]) {
            return Some(format!(
                "encoder_block_out_channels {stages:?} differ; this class needs them equal"
            ));
        }
        bounds(stages, &self.num_encoder_blocks)
            .or_else(|| channels(&[self.in_channels, self.latent_channels]))
    }
}

impl Default for KlConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            down_block_types: vec![DownBlock::Plain],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: Act::Silu,
            latent_channels: 4,
            norm_num_groups: 32,
            use_quant_conv: true,
            mid_block_add_attention: true,
            scaling_factor: 0.18215,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
        }
    }
}

impl Default for TinyConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            encoder_block_out_channels: vec![64; 4],
            num_encoder_blocks: vec![1, 3, 3, 3],
            act_fn: Act::Relu,
            latent_channels: 4,
            scaling_factor: 1.0,
            shift_factor: None,
        }
    }
}

fn parse<T: DeserializeOwned>(json: &Value) -> Result<T, String> {
    T::deserialize(json).map_err(|error| error.to_string())
}

/// Why these stages cannot be, if so.
fn bounds(stages: &[usize], layers: &[usize]) -> Option<String> {
    if stages.is_empty() || stages.len() > MAX_BLOCKS {
        return Some(format!("{} stages: use 1 to {MAX_BLOCKS}", stages.len()));
    }
    if let Some(n) = layers.iter().find(|&&n| n > MAX_LAYERS) {
        return Some(format!("{n} layers in a stage: use at most {MAX_LAYERS}"));
    }
    channels(stages)
}

fn channels(counts: &[usize]) -> Option<String> {
    let n = counts.iter().find(|&&n| n == 0 || n > MAX_CHANNELS)?;
    Some(format!("{n} channels: use 1 to {MAX_CHANNELS}"))
}
