//! The only file, with those below it, that names a burn backend.

#[cfg(feature = "gpu")]
mod cube;
#[cfg(feature = "cuda")]
mod cuda;
mod flex;
#[cfg(feature = "vulkan")]
mod vulkan;

use std::path::Path;

use burn_flex::{Flex, FlexDevice};

use crate::{
    DType, Device, Encoder, Error, Found, Options,
    config::{Config, TinyConfig, WanConfig},
    nn::Ops,
    open::{self, Build},
    self_test,
    weights::{Seeded, Weights},
};

/// Opens the checkpoint in `dir`, a VAE's folder or a pipeline's with the folder `vae` in it.
pub(crate) fn open_directory(dir: &Path, options: Options) -> Result<Box<dyn Encoder>, Error> {
    let vae = dir.join("vae");
    let dir = match dir.join("config.json").exists() || !vae.join("config.json").exists() {
        true => dir,
        false => &vae,
    };
    let config = Config::read(dir)?;
    if options.device != Device::Cpu {
        // Whatever is wrong with the files is found before the device is touched.
        open::check::<Flex>(&config, Weights::open(dir)?.dry(), FlexDevice)?;
    }
    let build = build(&config, options, false);
    on_device(&config, Weights::open(dir)?, build)
}

/// Opens `builtin:tiny`.
pub(crate) fn open_builtin_tiny(options: Options) -> Result<Box<dyn Encoder>, Error> {
    let weights = Weights::seeded(Seeded::Blurs {
        last: "encoder.layers.14",
        last_gain: 4.0,
    });
    let config = Config::Tiny(TinyConfig::default());
    let build = build(&config, options, true);
    on_device(&config, weights, build)
}

/// Opens `builtin:wan`.
pub(crate) fn open_builtin_wan(options: Options) -> Result<Box<dyn Encoder>, Error> {
    let config = Config::Wan(WanConfig::small());
    let build = build(&config, options, true);
    on_device(&config, Weights::seeded(Seeded::ClipBlurs), build)
}

fn build(config: &Config, options: Options, untrained: bool) -> Build {
    let Options {
        device,
        dtype,
        tiling,
        slicing,
    } = options;
    let asked = dtype.map(|dtype| (dtype, "asked for"));
    let (dtype, dtype_reason) = asked.unwrap_or_else(|| default_dtype(config, device));
    Build {
        device,
        dtype,
        dtype_reason,
        untrained,
        tiling,
        slicing,
    }
}

/// The dtype that a model of this config computes in on `device` unless told otherwise, and why.
fn default_dtype(config: &Config, device: Device) -> (DType, &'static str) {
    match device {
        Device::Cpu => (DType::F32, "what CPUs compute in"),
        _ if config.force_upcast() => (
            DType::F32,
            "`force_upcast` is true in config.json, or absent there; --dtype overrules it",
        ),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => cuda::default_dtype(index),
        _ => (DType::F32, "the one that every GPU computes in"),
    }
}

/// The devices that this build can use and that are there, the best first; without the CPU.
pub(crate) fn find() -> Vec<Found> {
    #[cfg_attr(not(feature = "gpu"), allow(unused_mut, reason = "no kind but one"))]
    let mut found = Vec::new();
    #[cfg(feature = "cuda")]
    found.extend(cuda::find());
    #[cfg(feature = "vulkan")]
    found.extend(vulkan::find());
    found
}

fn on_device(config: &Config, weights: Weights, build: Build) -> Result<Box<dyn Encoder>, Error> {
    match build.device {
        Device::Cpu => tested::<Flex>(config, weights, FlexDevice, build),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => tested::<cuda::Cuda>(config, weights, cuda::device(index)?, build),
        #[cfg(feature = "vulkan")]
        Device::Vulkan(index) => {
            tested::<vulkan::Vulkan>(config, weights, vulkan::device(index)?, build)
        }
        #[cfg(not(all(feature = "cuda", feature = "vulkan")))]
        device => Err(Error::NoBackend { device }),
    }
}

/// Opens the encoder on a device that gives the right answers.
fn tested<B: Ops>(
    config: &Config,
    weights: Weights,
    device: B::Device,
    build: Build,
) -> Result<Box<dyn Encoder>, Error> {
    let dtype = build.dtype;
    if !B::supports_dtype(&device, B::activations(dtype.float()).into()) {
        let device = build.device;
        return Err(Error::NoDType { device, dtype });
    }
    self_test::once::<B>(&device, build)?;
    open::encoder::<B>(config, weights, device, build)
}

/// The backend that unit tests of the families run on.
#[cfg(test)]
pub(crate) mod test {
    pub(crate) use burn_flex::{Flex as Backend, FlexDevice as Device};
}
