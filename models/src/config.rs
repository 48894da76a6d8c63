//! `config.json`: the class, and its parameters with diffusers' defaults for what the file omits.

mod cogvideox;
mod dc;
mod flux2;
mod hunyuan;
mod hunyuan15;
mod kl;
mod ltx;
mod mochi;
mod tiny;
mod wan;

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use cogvideox::{CHUNK, CogVideoXConfig};
pub(crate) use dc::{BlockType, DcConfig};
pub(crate) use flux2::Flux2Config;
pub(crate) use hunyuan::HunyuanConfig;
pub(crate) use hunyuan15::{Downsample, Hunyuan15Config};
pub(crate) use kl::{DownBlock, KlConfig};
pub(crate) use ltx::{LtxConfig, LtxDown, LtxLevel, Padding};
pub(crate) use mochi::{FEATURES, GROUPS, MochiConfig};
pub(crate) use tiny::TinyConfig;
pub(crate) use wan::WanConfig;

use crate::Error;

const KL: &str = "AutoencoderKL";
const FLUX2: &str = "AutoencoderKLFlux2";
const QWEN_IMAGE: &str = "AutoencoderKLQwenImage";
const WAN: &str = "AutoencoderKLWan";
const TEMPORAL_DECODER: &str = "AutoencoderKLTemporalDecoder";
const LTX: &str = "AutoencoderKLLTXVideo";
const LTX2: &str = "AutoencoderKLLTX2Video";
const HUNYUAN: &str = "AutoencoderKLHunyuanVideo";
const HUNYUAN_15: &str = "AutoencoderKLHunyuanVideo15";
const COGVIDEOX: &str = "AutoencoderKLCogVideoX";
const MOCHI: &str = "AutoencoderKLMochi";
const DC: &str = "AutoencoderDC";
const TINY: &str = "AutoencoderTiny";

/// The classes that are served, as errors list them.
const SERVED: [&str; 13] = [
    KL,
    FLUX2,
    QWEN_IMAGE,
    WAN,
    TEMPORAL_DECODER,
    LTX,
    LTX2,
    HUNYUAN,
    HUNYUAN_15,
    COGVIDEOX,
    MOCHI,
    DC,
    TINY,
];

/// Bounds that no published VAE comes near; past them a config is taken for damage.
const MAX_CHANNELS: usize = 1 << 14;
const MAX_STAGES: usize = 16;
const MAX_LAYERS: usize = 64;

/// A config, normalised: defaults filled in, keys that do not bear on the encoder left out.
#[derive(Debug, Serialize)]
pub(crate) enum Config {
    Kl(KlConfig),
    Flux2(Flux2Config),
    QwenImage(WanConfig),
    Wan(WanConfig),
    TemporalDecoder(KlConfig),
    Ltx(LtxConfig),
    Ltx2(LtxConfig),
    Hunyuan(HunyuanConfig),
    Hunyuan15(Hunyuan15Config),
    CogVideoX(CogVideoXConfig),
    Mochi(MochiConfig),
    Dc(DcConfig),
    Tiny(TinyConfig),
}

impl Config {
    /// Reads `dir/config.json`.
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let text = fs::read(&path).map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        let json = serde_json::from_slice(&text).map_err(|error| Error::BadCheckpoint {
            path: path.clone(),
            reason: format!("not JSON: {error}"),
        })?;
        Self::parse(&json, &path)
    }

    /// What the file at `path` holds.
    pub(crate) fn parse(json: &Value, path: &Path) -> Result<Self, Error> {
        let bad = |reason: String| Error::BadCheckpoint {
            path: path.to_owned(),
            reason,
        };
        let Some(class) = json.get("_class_name").and_then(Value::as_str) else {
            let reason = "no `_class_name`: is this the folder of a VAE in the diffusers layout?";
            return Err(bad(reason.to_owned()));
        };
        let parsed = match class {
            KL => KlConfig::deserialize(json).map(Self::Kl),
            FLUX2 => Flux2Config::parse(json).map(Self::Flux2),
            QWEN_IMAGE => WanConfig::deserialize(json).map(Self::QwenImage),
            WAN => WanConfig::deserialize(json).map(Self::Wan),
            TEMPORAL_DECODER => KlConfig::temporal_decoder(json).map(Self::TemporalDecoder),
            LTX => LtxConfig::video(json).map(Self::Ltx),
            LTX2 => LtxConfig::video_2(json).map(Self::Ltx2),
            HUNYUAN => HunyuanConfig::deserialize(json).map(Self::Hunyuan),
            HUNYUAN_15 => Hunyuan15Config::deserialize(json).map(Self::Hunyuan15),
            COGVIDEOX => CogVideoXConfig::deserialize(json).map(Self::CogVideoX),
            MOCHI => MochiConfig::deserialize(json).map(Self::Mochi),
            DC => DcConfig::deserialize(json).map(Self::Dc),
            TINY => TinyConfig::deserialize(json).map(Self::Tiny),
            _ => {
                return Err(Error::UnknownClass {
                    path: path.to_owned(),
                    class: class.to_owned(),
                    served: SERVED.join(", "),
                });
            }
        };
        let config = parsed.map_err(|error| bad(error.to_string()))?;
        match config.fault() {
            Some(reason) => Err(bad(reason)),
            None => Ok(config),
        }
    }

    /// The class name, as in the file.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Kl(_) => KL,
            Self::Flux2(_) => FLUX2,
            Self::QwenImage(_) => QWEN_IMAGE,
            Self::Wan(_) => WAN,
            Self::TemporalDecoder(_) => TEMPORAL_DECODER,
            Self::Ltx(_) => LTX,
            Self::Ltx2(_) => LTX2,
            Self::Hunyuan(_) => HUNYUAN,
            Self::Hunyuan15(_) => HUNYUAN_15,
            Self::CogVideoX(_) => COGVIDEOX,
            Self::Mochi(_) => MOCHI,
            Self::Dc(_) => DC,
            Self::Tiny(_) => TINY,
        }
    }

    /// Whether the model is to run in f32 where one would rather not: its values leave the range of
    /// f16. diffusers' default for the classes that have the key is true.
    pub(crate) fn force_upcast(&self) -> bool {
        match self {
            Self::Kl(config) | Self::TemporalDecoder(config) => config.force_upcast,
            Self::Flux2(config) => config.kl.force_upcast,
            _ => false,
        }
    }

    /// What makes the parameters impossible, if anything.
    fn fault(&self) -> Option<String> {
        match self {
            Self::Kl(config) | Self::TemporalDecoder(config) => config.fault(),
            Self::Ltx(config) | Self::Ltx2(config) => config.fault(),
            Self::Flux2(config) => config.fault(),
            Self::QwenImage(config) | Self::Wan(config) => config.fault(),
            Self::Hunyuan(config) => config.fault(),
            Self::Hunyuan15(config) => config.fault(),
            Self::CogVideoX(config) => config.fault(),
            Self::Mochi(config) => config.fault(),
            Self::Dc(config) => config.fault(),
            Self::Tiny(config) => config.fault(),
        }
    }
}

/// Why these stages cannot be, if so.
fn bounds(stages: &[usize], layers: &[usize]) -> Option<String> {
    if stages.is_empty() || stages.len() > MAX_STAGES {
        return Some(format!("{} stages: use 1 to {MAX_STAGES}", stages.len()));
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

/// Why a group norm cannot divide these channels, if so.
fn groups_fit(counts: &[usize], groups: usize) -> Option<String> {
    let uneven = |&&c: &&usize| groups == 0 || c % groups != 0;
    let c = counts.iter().find(uneven)?;
    Some(format!(
        "{c} channels do not divide into {groups} norm groups"
    ))
}
