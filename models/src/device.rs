//! The only file that names a burn backend.

mod flex;

use std::path::Path;

use burn_flex::{Flex, FlexDevice};

use crate::{
    DType, Device, Encoder, Error,
    config::{Config, TinyConfig},
    open::{self, Build},
    weights::{Seeded, Weights},
};

/// Opens the checkpoint in `dir`.
pub(crate) fn open_directory(
    dir: &Path,
    device: Device,
    dtype: DType,
) -> Result<Box<dyn Encoder>, Error> {
    let config = Config::read(dir)?;
    on_device(
        config,
        Weights::open(dir)?,
        Build {
            device,
            dtype,
            untrained: false,
        },
    )
}

/// Opens `builtin:tiny`.
pub(crate) fn open_builtin(device: Device, dtype: DType) -> Result<Box<dyn Encoder>, Error> {
    let weights = Weights::seeded(Seeded {
        last: "encoder.layers.14",
        last_gain: 4.0,
    });
    on_device(
        Config::Tiny(TinyConfig::default()),
        weights,
        Build {
            device,
            dtype,
            untrained: true,
        },
    )
}

fn on_device(config: Config, weights: Weights, build: Build) -> Result<Box<dyn Encoder>, Error> {
    match build.device {
        Device::Cpu => open::encoder::<Flex>(&config, weights, FlexDevice, build),
    }
}
