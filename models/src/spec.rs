//! What a model is: enough for a client to plan, and for a run to pin.

use std::{fmt, str::FromStr};

use crate::{DType, Error, LatentNorm};

/// Where a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The host's processor, through burn's `flex` backend.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number, as the driver counts them. Feature `cuda`.
    Cuda(usize),
    /// The GPU of this number among those with a Vulkan driver. Feature `vulkan`.
    Vulkan(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Vulkan(index) => write!(f, "vulkan:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let index = |text: Option<&str>| text.map_or(Some(0), |text| text.parse().ok());
        let (kind, number) = match name.split_once(':') {
            Some((kind, number)) => (kind, Some(number)),
            None => (name, None),
        };
        match (kind, index(number)) {
            ("cpu", _) if number.is_none() => Ok(Self::Cpu),
            ("cuda", Some(index)) => Ok(Self::Cuda(index)),
            ("vulkan", Some(index)) => Ok(Self::Vulkan(index)),
            _ => Err(Error::UnknownDevice {
                name: name.to_owned(),
                reason: "use cpu, cuda:N or vulkan:N".to_owned(),
            }),
        }
    }
}

/// BLAKE3 over everything that can change a latent. Shown as 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a model is and delivers.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Class name as in `config.json`.
    pub class: String,
    /// Changes whenever a latent could.
    pub fingerprint: Fingerprint,
    /// Where it runs.
    pub device: Device,
    /// What it computes in.
    pub dtype: DType,
    /// Why in that, for people.
    pub dtype_reason: &'static str,
    /// Channels of a latent as delivered (after packing, where the class packs).
    pub latent_channels: usize,
    /// Pixels per latent cell along each side, as delivered.
    pub spatial_compression: usize,
    /// Frames per latent frame; 1 for image models. A clip has `(frames - 1) / temporal_compression + 1`
    /// latent frames.
    pub temporal_compression: usize,
    /// Clips have a multiple of this many frames, and one. 1 where any number will do, as for image
    /// models, to which every frame is an image of its own.
    pub frame_step: usize,
    /// Width and height must be multiples of this.
    pub size_multiple: usize,
    /// Whether it looks at what it encodes; where not, the data of its input may be left empty.
    pub reads_pixels: bool,
    /// Whether there is a log-variance.
    pub has_posterior: bool,
    /// How a raw latent becomes what the diffusion model sees.
    pub norm: LatentNorm,
    /// Weights made in code: good for trying the pipeline, useless for training.
    pub untrained: bool,
    /// Output pixels of a device batch at which it runs well on this device.
    pub preferred_batch_pixels: u64,
}
