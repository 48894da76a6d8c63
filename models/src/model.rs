//! What every family shares: pixels to the device, sizes, moments back to the host.

mod sizes;

use std::fmt;

use burn::tensor::{DType as BurnDType, Tensor, TensorData};

pub(crate) use sizes::Sizes;

use crate::{
    Encoder, Error, Moments, PixelData, Pixels, Spec,
    moments::{LOGVAR_MAX, LOGVAR_MIN},
    nn::Ops,
};

/// A family's encoder: the part that reads as its paper reads.
pub(crate) trait Family<B: Ops>: fmt::Debug + Send {
    /// From pixels in [-1, 1], `[batch, height, width, 3]`, to the posterior.
    fn encode(&self, x: Tensor<B, 4>) -> Posterior<B>;
}

/// A posterior on the device, each part `[batch, height, width, channels]`.
#[derive(Debug)]
pub(crate) struct Posterior<B: Ops> {
    pub(crate) mean: Tensor<B, 4>,
    pub(crate) logvar: Option<Tensor<B, 4>>,
}

impl<B: Ops> Posterior<B> {
    /// The first half of the channels is the mean, the second the log-variance.
    pub(crate) fn split(x: Tensor<B, 4>) -> Self {
        let half = x.dims()[3] / 2;
        let logvar = x.clone().narrow(3, half, half);
        Self {
            mean: x.narrow(3, 0, half),
            logvar: Some(logvar.clamp(LOGVAR_MIN, LOGVAR_MAX)),
        }
    }
}

/// An encoder on a device.
#[derive(Debug)]
pub(crate) struct Model<B: Ops> {
    pub(crate) family: Box<dyn Family<B>>,
    pub(crate) device: B::Device,
    pub(crate) spec: Spec,
    pub(crate) sizes: Sizes,
}

impl<B: Ops> Encoder for Model<B> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error> {
        let Pixels {
            batch,
            frames,
            height,
            width,
            ..
        } = *pixels;
        self.sizes.check(pixels)?;
        if pixels.data.len() != pixels.len() || pixels.is_empty() {
            return Err(Error::Device(format!(
                "{} values for a batch of {}",
                pixels.data.len(),
                pixels.len()
            )));
        }
        // An image class sees each frame as an image of its own.
        let shape = [batch * frames, height, width, 3];
        let data = TensorData::new(pixels.interleaved(), shape);
        let x = Tensor::<B, 4>::from_data(data, &self.device).cast(self.spec.dtype.float());
        let posterior = self.family.encode(x);
        let [_, rows, columns, channels] = posterior.mean.dims();
        let shape = [batch, channels, frames, rows, columns];
        Ok(Moments {
            shape,
            mean: to_host(posterior.mean, shape)?,
            logvar: posterior
                .logvar
                .map(|logvar| to_host(logvar, shape))
                .transpose()?,
        })
    }
}

impl PixelData {
    fn len(&self) -> usize {
        match self {
            Self::Rgb8(bytes) => bytes.len(),
            Self::Planar(values) => values.len(),
        }
    }
}

impl Pixels {
    /// `[batch, frames, height, width, 3]` in [-1, 1].
    fn interleaved(&self) -> Vec<f32> {
        let plane = self.frames * self.height * self.width;
        match &self.data {
            PixelData::Rgb8(bytes) => {
                let value = |byte: &u8| f32::from(*byte) / 255.0 * 2.0 - 1.0;
                bytes.iter().map(value).collect()
            }
            PixelData::Planar(values) => {
                let mut interleaved = Vec::with_capacity(values.len());
                for element in values.chunks_exact(3 * plane) {
                    let pixel = |at| [0, 1, 2].map(|colour| element[colour * plane + at]);
                    interleaved.extend((0..plane).flat_map(pixel));
                }
                interleaved
            }
        }
    }
}

/// `[batch * frames, ..., channels]` on the device to `[batch, channels, frames, ...]` here, in f32.
fn to_host<B: Ops>(
    x: Tensor<B, 4>,
    [batch, channels, frames, rows, columns]: [usize; 5],
) -> Result<Vec<f32>, Error> {
    x.reshape([batch, frames, rows, columns, channels])
        .permute([0, 4, 1, 2, 3])
        .into_data()
        .convert_dtype(BurnDType::F32)
        .into_vec()
        .map_err(|error| Error::Device(format!("reading back: {error:?}")))
}
