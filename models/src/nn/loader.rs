//! From named tensors to layers on a device.

use burn::tensor::{Tensor, TensorData};

use super::{Conv2d, ConvShape, Floor, GroupNorm, LayerNorm, Ops, RmsNorm};
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

    /// `{name}.weight` and `{name}.bias` of a root-mean-square norm.
    pub(crate) fn rms_norm(
        &mut self,
        name: &str,
        channels: usize,
        floor: Floor,
    ) -> Result<RmsNorm<B>, Error> {
        let gamma = self.weights.take(&format!("{name}.weight"), &[channels])?;
        let beta = self.weights.take(&format!("{name}.bias"), &[channels])?;
        Ok(RmsNorm {
            gamma: Tensor::from_data(TensorData::new(gamma, [channels]), self.device),
            beta: Tensor::from_data(TensorData::new(beta, [channels]), self.device),
            floor,
        })
    }

    /// A root-mean-square norm without parameters.
    pub(crate) fn rms_norm_plain(&self, channels: usize, floor: Floor) -> RmsNorm<B> {
        RmsNorm {
            gamma: Tensor::ones([channels], self.device),
            beta: Tensor::zeros([channels], self.device),
            floor,
        }
    }

    /// `{name}.weight` and `{name}.bias` of a layer norm.
    pub(crate) fn layer_norm(
        &mut self,
        name: &str,
        channels: usize,
        eps: f32,
    ) -> Result<LayerNorm<B>, Error> {
        let gamma = self.weights.take(&format!("{name}.weight"), &[channels])?;
        let beta = self.weights.take(&format!("{name}.bias"), &[channels])?;
        Ok(LayerNorm {
            gamma: Tensor::from_data(TensorData::new(gamma, [channels]), self.device),
            beta: Tensor::from_data(TensorData::new(beta, [channels]), self.device),
            eps,
        })
    }

    /// A root-mean-square norm that has a scale alone, `name`, of this shape.
    pub(crate) fn gamma(
        &mut self,
        name: &str,
        shape: &[usize],
        floor: Floor,
    ) -> Result<RmsNorm<B>, Error> {
        let channels = shape[0];
        let gamma = self.weights.take(name, shape)?;
        Ok(RmsNorm {
            gamma: Tensor::from_data(TensorData::new(gamma, [channels]), self.device),
            beta: Tensor::zeros([channels], self.device),
            floor,
        })
    }

    /// A convolution whose weight was made elsewhere; the bias is still `{name}.bias`.
    pub(crate) fn conv_of(
        &mut self,
        name: &str,
        weight: Vec<f32>,
        shape: ConvShape,
    ) -> Result<Conv2d<B>, Error> {
        let bias = self.bias(name, shape)?;
        Ok(self.conv_from(weight, bias.as_deref(), shape))
    }

    /// `{name}.bias`, where the shape has one.
    pub(crate) fn bias(&mut self, name: &str, shape: ConvShape) -> Result<Option<Vec<f32>>, Error> {
        match shape.bias {
            true => {
                let bias = self
                    .weights
                    .take(&format!("{name}.bias"), &[shape.outputs])?;
                Ok(Some(bias))
            }
            false => Ok(None),
        }
    }

    /// A convolution whose values were made elsewhere.
    pub(crate) fn conv_from(
        &self,
        weight: Vec<f32>,
        bias: Option<&[f32]>,
        shape: ConvShape,
    ) -> Conv2d<B> {
        Conv2d::new(self.kernel(weight, bias, shape), shape)
    }

    /// `weight` as [`Ops::kernel`] wants it, on the device.
    pub(crate) fn kernel(
        &self,
        weight: Vec<f32>,
        bias: Option<&[f32]>,
        shape: ConvShape,
    ) -> B::Kernel {
        let dtype = self.dtype.float();
        let inputs = shape.flat().inputs / shape.groups;
        let sides = [shape.outputs, inputs, shape.kernel, shape.kernel];
        let weight = Tensor::<B, 4>::from_data(TensorData::new(weight, sides), self.device);
        let bias = bias.map(|values| {
            let data = TensorData::new(values.to_vec(), [shape.outputs]);
            Tensor::<B, 1>::from_data(data, self.device).cast(dtype)
        });
        B::kernel(weight.cast(dtype), bias, shape)
    }
}
