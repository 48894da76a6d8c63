#![doc = include_str!("../README.md")]

use std::{path::PathBuf, str::FromStr};

#[cfg(feature = "cpu")]
mod cogvideox;
#[cfg(feature = "cpu")]
mod config;
#[cfg(feature = "cpu")]
mod dc;
#[cfg(feature = "cpu")]
mod device;
mod dtype;
mod error;
mod found;
#[cfg(all(test, feature = "cpu"))]
mod golden;
#[cfg(feature = "cpu")]
mod hunyuan;
#[cfg(feature = "cpu")]
mod hunyuan15;
#[cfg(feature = "cpu")]
mod kernel;
#[cfg(feature = "cpu")]
mod kl;
#[cfg(feature = "cpu")]
mod ltx;
#[cfg(feature = "cpu")]
mod mochi;
#[cfg(feature = "cpu")]
mod model;
mod moments;
#[cfg(feature = "cpu")]
mod nn;
mod noise;
mod norm;
#[cfg(feature = "cpu")]
mod open;
mod pending;
#[cfg(feature = "cpu")]
mod self_test;
mod spec;
#[cfg(feature = "cpu")]
mod tiny;
#[cfg(feature = "cpu")]
mod wan;
#[cfg(feature = "cpu")]
mod weights;

pub mod flops;
pub mod image;
pub mod synthetic;

pub use dtype::DType;
pub use error::Error;
pub use found::{Found, choose, choose_one, devices};
pub use moments::{Moments, Posterior, Scale};
pub use norm::LatentNorm;
pub use pending::Pending;
pub use spec::{Device, Fingerprint, Spec};

/// A VAE encoder on one device. One OS thread owns it; nothing else calls it.
pub trait Encoder: Send {
    /// What it is and what it delivers.
    fn spec(&self) -> &Spec;

    /// The posterior of every element of the batch, raw (before [`LatentNorm`]).
    ///
    /// The result for one element does not depend on its batch mates beyond the last bits of f32.
    ///
    /// # Errors
    /// [`Error::Size`] for sizes that the model cannot take; [`Error::Device`] where the device fails.
    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error>;

    /// Begins to encode. A device that works by itself goes on after this has returned, and takes
    /// the next batch while it does; one that does not has encoded.
    ///
    /// # Errors
    /// As [`Self::encode`].
    fn begin(&mut self, pixels: &Pixels) -> Result<Pending, Error> {
        self.encode(pixels).map(Pending::from)
    }

    /// Bytes that this process holds on the device, for whichever models; `None` where the device is
    /// the host. To be called on the thread that encodes.
    fn device_memory(&self) -> Option<u64> {
        None
    }
}

/// A batch of images or clips of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// Elements.
    pub batch: usize,
    /// Frames of each element; 1 for images.
    pub frames: usize,
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// `batch * frames * height * width * 3` values.
    pub data: PixelData,
}

/// The values of [`Pixels`].
#[derive(Clone, Debug, PartialEq)]
pub enum PixelData {
    /// RGB bytes, `[batch, frames, height, width, 3]`. Models see `value / 255 * 2 - 1` in f32.
    Rgb8(Vec<u8>),
    /// Values as the model sees them, in [-1, 1], `[batch, 3, frames, height, width]`.
    Planar(Vec<f32>),
}

impl Pixels {
    /// Values per batch: `batch * frames * height * width * 3`.
    pub fn len(&self) -> usize {
        self.batch * self.frames * self.height * self.width * 3
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory in the diffusers layout.
    Directory(PathBuf),
    /// `builtin:tiny`: the AutoencoderTiny architecture with seeded weights made in code. Untrained.
    BuiltinTiny,
    /// `builtin:wan`: the AutoencoderKLWan architecture, a twelfth as wide, with seeded weights made in
    /// code. Untrained.
    BuiltinWan,
    /// `synthetic[:key=value,...]`: no weights at all; see [`synthetic::Config`].
    Synthetic(synthetic::Config),
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("builtin", "tiny")) => Ok(Self::BuiltinTiny),
            Some(("builtin", "wan")) => Ok(Self::BuiltinWan),
            Some(("builtin", name)) => Err(Error::UnknownBuiltin(name.to_owned())),
            Some(("synthetic", options)) => Ok(Self::Synthetic(options.parse()?)),
            None if text == "synthetic" => Ok(Self::Synthetic(synthetic::Config::default())),
            _ => Ok(Self::Directory(text.into())),
        }
    }
}

/// How to open a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where it runs.
    pub device: Device,
    /// What it computes in; `None` leaves that to the model and the device ([`Spec::dtype`] tells).
    /// On the CPU only the weights are rounded to it.
    pub dtype: Option<DType>,
    /// Whether large pictures are encoded in tiles, as diffusers does after `enable_tiling()`. That
    /// bounds memory, changes values, and so changes the fingerprint. `AutoencoderTiny` and
    /// `AutoencoderKLCogVideoX` do not tile.
    pub tiling: bool,
    /// Whether the pictures of a batch are encoded one by one, as diffusers does after
    /// `enable_slicing()`. It bounds memory, and is part of the fingerprint.
    pub slicing: bool,
}

/// Opens a model on a device in a dtype, without tiling or slicing.
///
/// # Errors
/// Everything that can be wrong with a checkpoint, naming what is missing and where it looked.
pub fn open(source: &Source, device: Device, dtype: DType) -> Result<Box<dyn Encoder>, Error> {
    let options = Options {
        device,
        dtype: Some(dtype),
        ..Options::default()
    };
    open_with(source, options)
}

/// Opens a model with these options. The first on a device and in a dtype tests that the device gives
/// the right answers there.
///
/// # Errors
/// As [`open`]; [`Error::SelfTest`] for a device that does not.
pub fn open_with(source: &Source, options: Options) -> Result<Box<dyn Encoder>, Error> {
    match source {
        Source::Synthetic(config) => Ok(Box::new(synthetic::Synthetic::new(config.clone()))),
        #[cfg(feature = "cpu")]
        Source::BuiltinTiny => device::open_builtin_tiny(options),
        #[cfg(feature = "cpu")]
        Source::BuiltinWan => device::open_builtin_wan(options),
        #[cfg(feature = "cpu")]
        Source::Directory(dir) => device::open_directory(dir, options),
        #[cfg(not(feature = "cpu"))]
        _ => Err(Error::NoBackend {
            device: options.device,
        }),
    }
}
