//! DC-AE's attention: ReLU instead of softmax, over several scales.

use burn::tensor::{FloatDType, Tensor, activation::relu};

use super::FLOOR;
use crate::{
    Error, flops,
    nn::{Act, Conv2d, ConvShape, Loader, Ops, RmsNorm},
};

/// Added to the sums of scores.
const EPS: f32 = 1e-15;

/// `x + norm(to_out(attention(q, k, v at every scale)))`
#[derive(Debug)]
pub(super) struct MultiscaleAttention<B: Ops> {
    /// `to_q`, `to_k` and `to_v` together. The names mislead: heads are cut across the three.
    to_qkv: Conv2d<B>,
    /// Each widens the view: depthwise, then mixing within a head.
    scales: Vec<(Conv2d<B>, Conv2d<B>)>,
    to_out: Conv2d<B>,
    norm: RmsNorm<B>,
    head: usize,
}

impl<B: Ops> MultiscaleAttention<B> {
    pub(super) fn load(
        load: &mut Loader<'_, B>,
        name: &str,
        [channels, head]: [usize; 2],
        kernels: &[usize],
    ) -> Result<Self, Error> {
        let heads = channels / head;
        let inner = heads * head;
        let mut to_qkv = Vec::new();
        for part in ["to_q", "to_k", "to_v"] {
            to_qkv.extend(
                load.weights
                    .take(&format!("{name}.{part}.weight"), &[inner, channels])?,
            );
        }
        let mut scales = Vec::new();
        for (index, &kernel) in kernels.iter().enumerate() {
            let name = format!("{name}.to_qkv_multiscale.{index}");
            let wide = ConvShape::same(3 * inner, 3 * inner, kernel).depthwise();
            let mix = ConvShape {
                groups: 3 * heads,
                ..ConvShape::same(3 * inner, 3 * inner, 1)
            };
            scales.push((
                load.conv(&format!("{name}.proj_in"), wide.without_bias())?,
                load.conv(&format!("{name}.proj_out"), mix.without_bias())?,
            ));
        }
        let to_out = inner * (1 + kernels.len());
        let weight = load
            .weights
            .take(&format!("{name}.to_out.weight"), &[channels, to_out])?;
        let linear = |inputs, outputs| ConvShape::same(inputs, outputs, 1).without_bias();
        Ok(Self {
            to_qkv: load.conv_of(name, to_qkv, linear(channels, 3 * inner))?,
            scales,
            to_out: load.conv_of(name, weight, linear(to_out, channels))?,
            norm: load.rms_norm(&format!("{name}.norm_out"), channels, FLOOR)?,
            head,
        })
    }

    pub(super) fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [n, h, w, _] = x.dims();
        let (d, pixels) = (self.head, h * w);
        let base = self.to_qkv.forward(x.clone());
        let wider = |(wide, mix): &(Conv2d<B>, Conv2d<B>)| mix.forward(wide.forward(base.clone()));
        let scales: Vec<_> = self.scales.iter().map(wider).collect();
        let all = Tensor::cat([vec![base], scales].concat(), 3);
        let dtype = all.dtype();
        let heads = all.dims()[3] / (3 * d);
        // [n, heads, 3 d, pixels]
        let all = all.reshape([n, pixels, heads, 3 * d]).permute([0, 2, 3, 1]);
        let part = |index: usize| all.clone().narrow(2, index * d, d);
        let (q, k, v) = (relu(part(0)), relu(part(1)), part(2));
        let inner = if pixels > d { d } else { pixels };
        flops::note(&[2, n, heads, pixels, d, inner]);
        let o = match pixels > d {
            true => linear(q, k, v).cast(dtype),
            false => quadratic(q, k, v),
        };
        let o = o.permute([0, 3, 1, 2]).reshape([n, h, w, heads * d]);
        B::rms_norm(self.to_out.forward(o), &self.norm, Act::None) + x
    }
}

/// `(v kᵀ) q`, each column divided by the same with ones for `v`. In f32: the sums run over all
/// pixels.
fn linear<B: Ops>(q: Tensor<B, 4>, k: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 4> {
    let [q, k, v] = [q, k, v].map(|t| t.cast(FloatDType::F32));
    let sums = product(k.clone().sum_dim(3).swap_dims(2, 3), q.clone());
    let mixed = product(product(v, k.swap_dims(2, 3)), q);
    mixed / (sums + EPS)
}

/// `v (kᵀ q)` with the scores of each column divided by their sum.
fn quadratic<B: Ops>(q: Tensor<B, 4>, k: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 4> {
    let dtype = v.dtype();
    let scores = product(k.swap_dims(2, 3), q).cast(FloatDType::F32);
    let scores = scores.clone() / (scores.sum_dim(2) + EPS);
    product(v, scores.cast(dtype))
}

/// `a b` for every head of every element: `[n, heads, rows, inner]` by `[n, heads, inner, columns]`.
fn product<B: Ops>(a: Tensor<B, 4>, b: Tensor<B, 4>) -> Tensor<B, 4> {
    let [n, heads, rows, inner] = a.dims();
    let columns = b.dims()[3];
    let a = a.reshape([n * heads, rows, inner]);
    let b = b.reshape([n * heads, inner, columns]);
    B::matmul(a, b).reshape([n, heads, rows, columns])
}
