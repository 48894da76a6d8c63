//! The only file that names a burn backend.

mod flex;

use std::path::Path;

use burn_flex::{Flex, FlexDevice};

use crate::{
    Device, Encoder, Error,
    config::{Config, TinyConfig},
    open::{self, Build},
    weights::{Seeded, Weights},
};

/// Opens the checkpoint in `dir`, a VAE's folder or a pipeline's with the folder `vae` in it.
pub(crate) fn open_directory(dir: &Path, build: Build) -> Result<Box<dyn Encoder>, Error> {
    let vae = dir.join("vae");
    let dir = match dir.join("config.json").exists() || !vae.join("config.json").exists() {
        true => dir,
        false => &vae,
    };
    on_device(Config::read(dir)?, Weights::open(dir)?, build)
}

/// Opens `builtin:tiny`.
pub(crate) fn open_builtin(build: Build) -> Result<Box<dyn Encoder>, Error> {
    let weights = Weights::seeded(Seeded {
        last: "encoder.layers.14",
        last_gain: 4.0,
    });
    on_device(Config::Tiny(TinyConfig::default()), weights, build)
}

fn on_device(config: Config, weights: Weights, build: Build) -> Result<Box<dyn Encoder>, Error> {
    match build.device {
        Device::Cpu => open::encoder::<Flex>(&config, weights, FlexDevice, build),
    }
}

/// The backend that unit tests of the families run on.
#[cfg(test)]
pub(crate) mod test {
    pub(crate) use burn_flex::{Flex as Backend, FlexDevice as Device};
}
