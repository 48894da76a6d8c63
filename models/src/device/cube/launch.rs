//! From tensors to launches of our kernels. All tensors here are dense.

use burn::tensor::{DType, Shape as Sides};
use burn_cubecl::{CubeRuntime, ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor};
use cubecl::{CubeCount, CubeDim};

use super::{
    conv::{self, Fixed, FusedAct, ShapeLaunch, TILE, UNITS},
    norm::{self, LANES, MERGERS, ROWS, RUN},
    pixels,
};
use crate::nn::ConvShape;

/// Units of a cube of kernels that do one value a unit.
const FLAT: u32 = 256;

/// Cubes that every device takes along one axis.
const AXIS: u32 = 65_535;

/// A convolution, or with a weight for each element of the batch a matrix product.
pub(super) struct Product<R: CubeRuntime> {
    /// `[n, height, width, inputs]`
    pub(super) x: CubeTensor<R>,
    /// `[kernel * kernel * inputs, outputs]`, or so many of them.
    pub(super) weight: CubeTensor<R>,
    /// Values of one of them; 0 where there is but one.
    pub(super) weights_each: usize,
    /// `[outputs]` in f32.
    pub(super) bias: Option<CubeTensor<R>>,
    /// `[n, out_height, out_width, outputs]`
    pub(super) residual: Option<CubeTensor<R>>,
    pub(super) shape: ConvShape,
    pub(super) act: FusedAct,
}

impl<R: CubeRuntime> Product<R> {
    /// `act(conv(x) + bias + residual)`
    pub(super) fn launch(self) -> CubeTensor<R> {
        let [n, height, width, inputs] = sides(&self.x);
        let [out_height, out_width] = self.shape.output(height, width);
        let outputs = self.shape.outputs;
        let client = self.x.client.clone();
        let out = like(&self.x, [n, out_height, out_width, outputs], self.x.dtype);
        let fixed = Fixed {
            kernel: self.shape.kernel as u32,
            stride: self.shape.stride as u32,
            bias: self.bias.is_some(),
            residual: self.residual.is_some(),
            act: self.act,
        };
        let tiles = |count: usize| (count as u32).div_ceil(TILE);
        let cubes = CubeCount::Static(tiles(out_height * out_width), tiles(outputs), n as u32);
        // Tensors that are not read, where there is none.
        let bias = self.bias.unwrap_or_else(|| like(&self.x, [1], DType::F32));
        let residual = self.residual.unwrap_or_else(|| self.x.clone());
        let [top, left, ..] = self.shape.pad;
        let dtype = self.x.dtype.into();
        conv::conv::launch(
            &client,
            cubes,
            CubeDim::new_2d(UNITS, UNITS),
            self.x.into_tensor_arg(),
            self.weight.into_tensor_arg(),
            bias.into_tensor_arg(),
            residual.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            ShapeLaunch::new(
                height as u32,
                width as u32,
                inputs as u32,
                out_height as u32,
                out_width as u32,
                outputs as u32,
                top as u32,
                left as u32,
                self.weights_each as u32,
            ),
            fixed,
            [dtype, dtype],
        );
        out
    }
}

/// What is normalised, and the scale and shift of its channels in f32.
pub(super) struct Moments<R: CubeRuntime> {
    /// `[n, height, width, channels]`
    pub(super) x: CubeTensor<R>,
    /// `[channels]`
    pub(super) gamma: CubeTensor<R>,
    /// `[channels]`
    pub(super) beta: CubeTensor<R>,
}

impl<R: CubeRuntime> Moments<R> {
    /// `act(norm(x))` over groups of channels.
    pub(super) fn group_norm(self, groups: usize, eps: f32, act: FusedAct) -> CubeTensor<R> {
        let [n, height, width, channels] = sides(&self.x);
        let pixels = height * width;
        let runs = pixels.div_ceil(RUN as usize);
        let client = self.x.client.clone();
        let dtype = self.x.dtype.into();
        let moments = like(&self.x, [n, runs, channels, 2], DType::F32);
        let (cubes, units) = flat(n * runs * channels);
        norm::run_moments::launch(
            &client,
            cubes,
            units,
            self.x.clone().into_tensor_arg(),
            moments.clone().into_tensor_arg(),
            runs as u32,
            pixels as u32,
            channels as u32,
            dtype,
        );
        let merged = like(&self.x, [n, groups, 2], DType::F32);
        let group = (channels / groups) as u32;
        norm::merge_moments::launch(
            &client,
            CubeCount::Static(groups as u32, n as u32, 1),
            CubeDim::new_1d(MERGERS),
            moments.into_tensor_arg(),
            merged.clone().into_tensor_arg(),
            runs as u32,
            pixels as u32,
            channels as u32,
            group,
            eps,
        );
        let out = like(&self.x, [n, height, width, channels], self.x.dtype);
        let (cubes, units) = flat(n * pixels * channels);
        norm::normalise::launch(
            &client,
            cubes,
            units,
            self.x.into_tensor_arg(),
            merged.into_tensor_arg(),
            self.gamma.into_tensor_arg(),
            self.beta.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            pixels as u32,
            channels as u32,
            group,
            act,
            dtype,
        );
        out
    }

    /// `act(norm(x))` over the channels of each pixel, by `max(sqrt(mean of squares + eps), least)`.
    pub(super) fn rms_norm(self, eps: f32, least: f32, act: FusedAct) -> CubeTensor<R> {
        let [n, height, width, channels] = sides(&self.x);
        let pixels = n * height * width;
        let client = self.x.client.clone();
        let out = like(&self.x, [n, height, width, channels], self.x.dtype);
        let dtype = self.x.dtype.into();
        norm::rms::launch(
            &client,
            spread((pixels as u32).div_ceil(ROWS)),
            CubeDim::new_2d(LANES, ROWS),
            self.x.into_tensor_arg(),
            self.gamma.into_tensor_arg(),
            self.beta.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            pixels as u32,
            channels as u32,
            eps,
            least,
            act,
            dtype,
        );
        out
    }
}

/// Uploads bytes, and makes `byte / 255 * 2 - 1` of them on the device.
pub(super) fn unpack<R: CubeRuntime>(
    bytes: &[u8],
    shape: [usize; 4],
    device: &R::Device,
    dtype: DType,
) -> CubeTensor<R> {
    let client = R::client(device);
    let words = bytes.len().div_ceil(4);
    let handle = match bytes.len() % 4 {
        0 => client.create_from_slice(bytes),
        _ => {
            let mut padded = bytes.to_vec();
            padded.resize(words * 4, 0);
            client.create_from_slice(&padded)
        }
    };
    let sides = Sides::from([words]);
    let packed =
        CubeTensor::new_contiguous(client.clone(), device.clone(), sides, handle, DType::U32);
    let out = like(&packed, shape, dtype);
    let (cubes, units) = flat(bytes.len());
    pixels::unpack::launch(
        &client,
        cubes,
        units,
        packed.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        dtype.into(),
    );
    out
}

/// Room for a dense tensor where `x` lies.
fn like<R: CubeRuntime, const D: usize>(
    x: &CubeTensor<R>,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor<R> {
    let (client, device) = (x.client.clone(), x.device.clone());
    empty_device_contiguous_dtype(client, device, shape.into(), dtype)
}

fn sides<R: CubeRuntime>(x: &CubeTensor<R>) -> [usize; 4] {
    let shape = x.meta.shape();
    [shape[0], shape[1], shape[2], shape[3]]
}

/// One unit a value.
fn flat(values: usize) -> (CubeCount, CubeDim) {
    let cubes = (values as u32).div_ceil(FLAT);
    (spread(cubes), CubeDim::new_1d(FLAT))
}

/// So many cubes or a few more, within what every device takes along an axis.
fn spread(cubes: u32) -> CubeCount {
    let rows = cubes.div_ceil(AXIS);
    CubeCount::Static(cubes.div_ceil(rows.max(1)), rows, 1)
}
