//! The only file that names a burn backend.

use std::path::Path;

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};

use crate::{
    DType, Device, Encoder, Error,
    config::{Config, TinyConfig},
    nn::{
        Act, ConvShape, GroupNorm, Ops, PlainKernel, Post, Pre, plain_convolve, plain_group_norm,
    },
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

impl Ops for Flex {
    type Kernel = PlainKernel<Self>;

    fn kernel(
        weight: Tensor<Self, 4>,
        bias: Option<Tensor<Self, 1>>,
        shape: ConvShape,
    ) -> Self::Kernel {
        PlainKernel::new(weight, bias, shape)
    }

    fn convolve(
        x: Tensor<Self, 4>,
        pre: Option<Pre<'_, Self>>,
        kernel: &Self::Kernel,
        post: Post<Self>,
    ) -> Tensor<Self, 4> {
        plain_convolve(x, pre, kernel, post)
    }

    fn group_norm(x: Tensor<Self, 4>, norm: &GroupNorm<Self>, act: Act) -> Tensor<Self, 4> {
        plain_group_norm(x, norm, act)
    }
}
