//! What can go wrong with a checkpoint, a size or a device.

use std::path::PathBuf;

use crate::{DType, Device};

/// Why a model cannot be opened or cannot encode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory that is not there or cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// Why it was not.
        source: std::io::Error,
    },
    /// No weight file where diffusers would look.
    #[error("no weights in {dir}: looked for {looked_for}")]
    NoWeights {
        /// The model directory.
        dir: PathBuf,
        /// The names tried.
        looked_for: String,
    },
    /// `config.json` or a weight file that does not parse, or contradicts itself.
    #[error("{path}: {reason}")]
    BadCheckpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A class that is not served.
    #[error("{path}: class {class} is not served; these are: {served}")]
    UnknownClass {
        /// The `config.json`.
        path: PathBuf,
        /// Its `_class_name`.
        class: String,
        /// The classes that are served.
        served: String,
    },
    /// A `builtin:` name that does not exist.
    #[error("unknown model builtin:{0}: there are builtin:tiny and builtin:wan")]
    UnknownBuiltin(String),
    /// A bad `synthetic:` option.
    #[error("synthetic model: {0}")]
    Synthetic(String),
    /// A dtype name that is none of ours.
    #[error("unknown dtype `{0}`: use f32, f16 or bf16")]
    UnknownDType(String),
    /// A device name that is none of ours, or not compiled in, or not there.
    #[error("device `{name}`: {reason}")]
    UnknownDevice {
        /// As typed.
        name: String,
        /// What to do instead.
        reason: String,
    },
    /// Built without the backend of this device.
    #[error("this build has no backend for {device}: build with the feature `{}`", feature(*.device))]
    NoBackend {
        /// The device asked for.
        device: Device,
    },
    /// A dtype that the device does not compute in.
    #[error("{device} does not compute in {dtype}: use --dtype f32, or another device")]
    NoDType {
        /// The device.
        device: Device,
        /// The dtype asked for.
        dtype: DType,
    },
    /// A device whose answers are wrong.
    #[error(
        "{device} fails its self-test in {dtype}: {found}. It would deliver wrong latents, and is \
         refused: try another --dtype or --device, or another driver"
    )]
    SelfTest {
        /// The device.
        device: Device,
        /// What it computed in.
        dtype: DType,
        /// What it did.
        found: String,
    },
    /// A size that the model cannot take.
    #[error("size {width}x{height}: {reason}")]
    Size {
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
        /// Why, and which sizes work.
        reason: String,
    },
    /// A number of frames that the model cannot take.
    #[error(
        "{frames} frames: this model takes clips of {step}k + 1; the nearest are {below} and {above}"
    )]
    Frames {
        /// Frames of each element.
        frames: usize,
        /// Clips have a multiple of this many frames, and one.
        step: usize,
        /// The longest clip that it takes of those shorter than this one, or the shortest.
        below: usize,
        /// The shortest clip that it takes of those longer than this one.
        above: usize,
    },
    /// A latent with infinities or NaNs.
    #[error("the latent is not finite: {cause}")]
    NotFinite {
        /// The likely cause, and what to do.
        cause: &'static str,
    },
    /// The device failed while computing.
    #[error("device failed: {0}")]
    Device(String),
}

/// The feature that brings the backend of a device.
const fn feature(device: Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Vulkan(_) => "vulkan",
    }
}
