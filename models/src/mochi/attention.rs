//! Attention of every pixel to itself in the frames before.

use burn::tensor::{FloatDType, Tensor, TensorData, activation::softmax};

use super::{NORMS, linear};
use crate::{
    Error, flops,
    nn::{Act, ClipNorm, Conv2d, ConvShape, Loader, Ops, Past, so_far},
};

/// Channels of a head.
const HEAD: usize = 32;

/// The least length that queries and keys are divided by.
const LENGTH: f32 = 1e-5;

/// Products that are made at one time: devices number no more than 65535 of them.
const PRODUCTS: usize = 1 << 15;

/// Scores that exist at one time, so that memory does not grow with the square of the frames.
const SCORES: usize = 1 << 24;

/// Scores that are as good as minus infinity, and no trouble to any device.
const NEVER: f32 = -1e30;

/// `x + to_out(softmax(q k / sqrt(32)) v)` with `q, k, v` linear in `norm(x)`, `q` and `k` of length 1,
/// heads of 32 channels; over the frames up to each, of every pixel by itself.
#[derive(Debug)]
pub(super) struct TimeAttention<B: Ops> {
    norm: ClipNorm<B>,
    to_q: Conv2d<B>,
    to_k: Conv2d<B>,
    to_v: Conv2d<B>,
    to_out: Conv2d<B>,
}

impl<B: Ops> TimeAttention<B> {
    /// Loads that of layer `layer` of the stage `name`.
    pub(super) fn load(
        load: &mut Loader<'_, B>,
        name: &str,
        (layer, channels): (usize, usize),
    ) -> Result<Self, Error> {
        let mut layers = |layers: &str, bias| {
            let shape = ConvShape {
                bias,
                ..ConvShape::same(channels, channels, 1)
            };
            linear(load, &format!("{name}.attentions.{layer}.{layers}"), shape)
        };
        let [to_q, to_k, to_v, to_out] = [
            layers("to_q", false)?,
            layers("to_k", false)?,
            layers("to_v", false)?,
            layers("to_out.0", true)?,
        ];
        Ok(Self {
            norm: NORMS.load(load, &format!("{name}.norms.{layer}"), channels)?,
            to_q,
            to_k,
            to_v,
            to_out,
        })
    }

    pub(super) fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let t = self.norm.forward(x.clone(), past, Act::None);
        let v = self.to_v.forward(t.clone());
        let o = match past.is_still() {
            // What attends to itself alone is its own value.
            true => v,
            false => {
                let [q, k] = [&self.to_q, &self.to_k].map(|conv| conv.forward(t.clone()));
                let (k, v) = (so_far(unit(k), past), so_far(v, past));
                attend(unit(q), k, v)
            }
        };
        self.to_out.add(o, x, Act::None)
    }
}

/// The same with every head of every pixel of length 1.
fn unit<B: Ops>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let (dtype, dims) = (x.dtype(), x.dims());
    let [n, h, w, c] = dims;
    let x = x.cast(FloatDType::F32).reshape([n, h * w, c / HEAD, HEAD]);
    let length = x.clone().square().sum_dim(3).sqrt().clamp_min(LENGTH);
    (x / length).reshape(dims).cast(dtype)
}

/// Causal attention over frames: `q` is of the last frames of `k` and `v`.
fn attend<B: Ops>(q: Tensor<B, 4>, k: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 4> {
    let dims = q.dims();
    let ([n, h, w, c], m) = (dims, k.dims()[0]);
    let (heads, dtype) = (c / HEAD, q.dtype());
    flops::note(&[2, h * w * heads, n, m, HEAD]);
    let never = never::<B>([n, m], &q.device());
    let q = q.mul_scalar((HEAD as f64).powf(-0.5));
    let [q, k, v] = [q, k, v].map(|x| {
        let frames = x.dims()[0];
        x.reshape([frames, h * w, heads, HEAD])
    });
    let fit = (SCORES / (n * m)).min(PRODUCTS) / heads;
    let fit = fit.clamp(1, h * w);
    let slices = (0..h * w).step_by(fit).map(|start| {
        let pixels = fit.min(h * w - start);
        // `[heads of pixels, frames, HEAD]`
        let lines = |x: &Tensor<B, 4>| {
            let frames = x.dims()[0];
            let x = x.clone().narrow(1, start, pixels).permute([1, 2, 0, 3]);
            x.reshape([pixels * heads, frames, HEAD])
        };
        let scores = B::matmul(lines(&q), lines(&k).swap_dims(1, 2));
        let scores = softmax(scores.cast(FloatDType::F32) + never.clone(), 2);
        let o = B::matmul(scores.cast(dtype), lines(&v));
        let o = o.reshape([pixels, heads, n, HEAD]).permute([2, 0, 1, 3]);
        o.reshape([n, pixels, c])
    });
    Tensor::cat(slices.collect(), 1).reshape(dims)
}

/// What is added to the scores of `n` frames, the last of `m`, so that none sees a later one.
fn never<B: Ops>([n, m]: [usize; 2], device: &B::Device) -> Tensor<B, 3> {
    let score = |at: usize| {
        let (frame, seen) = (m - n + at / m, at % m);
        if seen > frame { NEVER } else { 0.0 }
    };
    let scores = (0..n * m).map(score).collect();
    Tensor::<B, 3>::from_data(TensorData::new(scores, [1, n, m]), device).cast(FloatDType::F32)
}
