//! From named tensors to layers on a device.

use burn::tensor::{Tensor, TensorData};

use super::{Conv2d, ConvShape, GroupNorm, Ops};
use crate::{DType, Error, weights::Weights};

/// Takes tensors by name and lays them out on the device.
#[derive(Debug)]
pub(crate) struct Loader<'a, B: Ops> {
    pub(crate) weights: &'a mut Weights,
    pub(crate) device: &'a B::Device,
    pub(crate) dtype: DType,
}

impl<B: Ops> Loader<'_, B> {
    /// `{name}.weight` and, where the shape has one, `{name}.bias`.
    pub(crate) fn conv(&mut self, name: &str, shape: ConvShape) -> Result<Conv2d<B>, Error> {
        let ConvShape {
            inputs,
            outputs,
            kernel,
            groups,
            ..
        } = shape;
        let sides = [outputs, inputs / groups, kernel, kernel];
        let weight = self.weights.take(&format!("{name}.weight"), &sides)?;
        self.conv_of(name, weight, shape)
    }

    /// A linear layer of `channels` to `channels` over pixels, as a 1x1 convolution. Old files store
    /// it as one.
    pub(crate) fn linear(&mut self, name: &str, channels: usize) -> Result<Conv2d<B>, Error> {
        let weight = self
            .weights
            .take_linear(&format!("{name}.weight"), channels)?;
        self.conv_of(name, weight, ConvShape::same(channels, channels, 1))
    }

    /// `{name}.weight` and `{name}.bias` of a group norm.
    pub(crate) fn group_norm(
        &mut self,
        name: &str,
        channels: usize,
        groups: usize,
        eps: f32,
    ) -> Result<GroupNorm<B>, Error> {
        let gamma = self.weights.take(&format!("{name}.weight"), &[channels])?;
        let beta = self.weights.take(&format!("{name}.bias"), &[channels])?;
        Ok(GroupNorm {
            gamma: Tensor::from_data(TensorData::new(gamma, [channels]), self.device),
            beta: Tensor::from_data(TensorData::new(beta, [channels]), self.device),
            groups,
            eps,
        })
    }

    /// A convolution whose weight was made elsewhere; the bias is still `{name}.bias`.
    pub(crate) fn conv_of(
        &mut self,
        name: &str,
        weight: Vec<f32>,
        shape: ConvShape,
    ) -> Result<Conv2d<B>, Error> {
        let ConvShape {
            inputs,
            outputs,
            kernel,
            groups,
            ..
        } = shape;
        let bias = match shape.bias {
            true => Some(self.weights.take(&format!("{name}.bias"), &[outputs])?),
            false => None,
        };
        let dtype = self.dtype.float();
        let sides = [outputs, inputs / groups, kernel, kernel];
        let weight = Tensor::<B, 4>::from_data(TensorData::new(weight, sides), self.device);
        let bias = bias.map(|values| {
            Tensor::<B, 1>::from_data(TensorData::new(values, [outputs]), self.device).cast(dtype)
        });
        Ok(Conv2d::new(B::kernel(weight.cast(dtype), bias, shape)))
    }
}
