//! Convolution and matrix product as one tiled product with sums in f32, for any GPU.
//!
//! Why not burn's: on tensor cores its f32 becomes TF32 (11 bits), and its direct kernel sums in the
//! dtype of the tensor. Here products of f32 are f32, and every 16 of them are summed apart before
//! they join the rest, which keeps rounding small at thousands of terms.

use cubecl::prelude::*;

/// Outputs of a cube: this many pixels by as many channels.
pub(super) const TILE: u32 = 64;
/// Terms that are summed apart, and that a cube holds in shared memory at a time.
const DEPTH: u32 = 16;
/// Units of a cube along each side of its tile.
pub(super) const UNITS: u32 = 16;
/// Outputs of a unit along each side: `TILE / UNITS`.
const EACH: u32 = 4;
/// Pixels are loaded channel by channel; one more in a row keeps the units out of each other's banks.
const PIXEL_ROW: u32 = TILE + 1;

/// What a launch needs to know about its tensors.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Shape {
    /// Height, width and channels of the input.
    pub(super) height: u32,
    pub(super) width: u32,
    pub(super) inputs: u32,
    /// Height, width and channels of the output.
    pub(super) out_height: u32,
    pub(super) out_width: u32,
    pub(super) outputs: u32,
    /// Rows and columns of zeros before the first of the input.
    pub(super) top: u32,
    pub(super) left: u32,
    /// Weights from one element of the batch to the next; 0 where they share them.
    pub(super) weights_each: u32,
}

/// What is known when the kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fixed {
    /// Side of the convolution's kernel.
    pub(super) kernel: u32,
    /// Pixels from one output to the next.
    pub(super) stride: u32,
    pub(super) bias: bool,
    pub(super) residual: bool,
    pub(super) act: FusedAct,
}

/// The activations that end a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FusedAct {
    None,
    Relu,
    Silu,
}

/// `out = act(conv(x) + bias + residual)`, dense: `x [n, height, width, inputs]`, `weight
/// [kernel * kernel * inputs, outputs]`, `out` and `residual [n, out_height, out_width, outputs]`.
/// Cubes: pixel tiles, channel tiles, batch.
#[cube(launch)]
pub(super) fn conv<F: Float, O: Float>(
    x: &Tensor<F>,
    weight: &Tensor<F>,
    bias: &Tensor<f32>,
    residual: &Tensor<O>,
    out: &mut Tensor<O>,
    shape: Shape,
    #[comptime] fixed: Fixed,
    #[define(F, O)] _dtypes: [StorageType; 2],
) {
    let mut pixels = SharedMemory::<f32>::new(comptime![(DEPTH * PIXEL_ROW) as usize]);
    let mut weights = SharedMemory::<f32>::new(comptime![(DEPTH * TILE) as usize]);
    let mut sums = Array::<f32>::new(comptime![(EACH * EACH) as usize]);
    let mut part = Array::<f32>::new(comptime![(EACH * EACH) as usize]);
    #[unroll]
    for i in 0..comptime![EACH * EACH] {
        sums[i as usize] = 0.0;
    }

    let (first_pixel, first_output) = (CUBE_POS_X * TILE, CUBE_POS_Y * TILE);
    let all_pixels = shape.out_height * shape.out_width;
    for tap in 0..comptime![fixed.kernel * fixed.kernel] {
        for first in range_stepped(0, shape.inputs, DEPTH) {
            load_pixels(x, &mut pixels, &shape, tap, first, fixed);
            load_weights(weight, &mut weights, &shape, tap, first);
            sync_cube();
            product(&pixels, &weights, &mut part);
            #[unroll]
            for i in 0..comptime![EACH * EACH] {
                sums[i as usize] += part[i as usize];
            }
            sync_cube();
        }
    }

    #[unroll]
    for row in 0..comptime![EACH] {
        let pixel = first_pixel + UNIT_POS_Y + row * UNITS;
        #[unroll]
        for column in 0..comptime![EACH] {
            let output = first_output + UNIT_POS_X + column * UNITS;
            if pixel < all_pixels && output < shape.outputs {
                let at = ((CUBE_POS_Z * all_pixels + pixel) * shape.outputs + output) as usize;
                let mut value = sums[comptime![(row * EACH + column) as usize]];
                if comptime![fixed.bias] {
                    value += bias[output as usize];
                }
                if comptime![fixed.residual] {
                    value += f32::cast_from(residual[at]);
                }
                out[at] = O::cast_from(activate(value, fixed.act));
            }
        }
    }
}

/// What the outputs of this cube see through one tap of the kernel, [`DEPTH`] channels from `first`.
/// Neighbouring units load neighbouring channels of a pixel.
#[cube]
fn load_pixels<F: Float>(
    x: &Tensor<F>,
    pixels: &mut SharedMemory<f32>,
    shape: &Shape,
    tap: u32,
    first: u32,
    #[comptime] fixed: Fixed,
) {
    let (down, right) = (tap / fixed.kernel, tap % fixed.kernel);
    let image = CUBE_POS_Z * shape.height * shape.width;
    let (term, channel) = (UNIT_POS % DEPTH, first + UNIT_POS % DEPTH);
    #[unroll]
    for i in 0..comptime![EACH] {
        let row = UNIT_POS / DEPTH + i * UNITS;
        let pixel = CUBE_POS_X * TILE + row;
        // Wraps where it is above or left of the image, and is then past its end.
        let y = pixel / shape.out_width * fixed.stride + down - shape.top;
        let x_ = pixel % shape.out_width * fixed.stride + right - shape.left;
        let mut value = 0.0f32;
        if pixel < shape.out_height * shape.out_width
            && channel < shape.inputs
            && y < shape.height
            && x_ < shape.width
        {
            let at = (image + y * shape.width + x_) * shape.inputs + channel;
            value = f32::cast_from(x[at as usize]);
        }
        pixels[(term * PIXEL_ROW + row) as usize] = value;
    }
}

/// The weights of the same tap and channels. Neighbouring units load those of neighbouring outputs.
#[cube]
fn load_weights<F: Float>(
    weight: &Tensor<F>,
    weights: &mut SharedMemory<f32>,
    shape: &Shape,
    tap: u32,
    first: u32,
) {
    let matrix = CUBE_POS_Z * shape.weights_each;
    let output = CUBE_POS_Y * TILE + UNIT_POS % TILE;
    #[unroll]
    for i in 0..comptime![EACH] {
        let term = UNIT_POS / TILE + i * EACH;
        let channel = first + term;
        let mut value = 0.0f32;
        if output < shape.outputs && channel < shape.inputs {
            let row = tap * shape.inputs + channel;
            value = f32::cast_from(weight[(matrix + row * shape.outputs + output) as usize]);
        }
        weights[(term * TILE + UNIT_POS % TILE) as usize] = value;
    }
}

/// The sums over the terms in shared memory, for the outputs of this unit.
#[cube]
fn product(pixels: &SharedMemory<f32>, weights: &SharedMemory<f32>, part: &mut Array<f32>) {
    #[unroll]
    for i in 0..comptime![EACH * EACH] {
        part[i as usize] = 0.0;
    }
    for term in 0..DEPTH {
        let mut w = Array::<f32>::new(comptime![EACH as usize]);
        #[unroll]
        for column in 0..comptime![EACH] {
            w[column as usize] = weights[(term * TILE + UNIT_POS_X + column * UNITS) as usize];
        }
        #[unroll]
        for row in 0..comptime![EACH] {
            let p = pixels[(term * PIXEL_ROW + UNIT_POS_Y + row * UNITS) as usize];
            #[unroll]
            for column in 0..comptime![EACH] {
                part[comptime![(row * EACH + column) as usize]] += p * w[column as usize];
            }
        }
    }
}

/// The activation that a kernel ends with.
#[cube]
pub(super) fn activate(x: f32, #[comptime] act: FusedAct) -> f32 {
    match act {
        FusedAct::None => x,
        FusedAct::Relu => f32::max(x, 0.0),
        FusedAct::Silu => x / (1.0 + f32::exp(-x)),
    }
}
