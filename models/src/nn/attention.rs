//! The attention of the middle block: one head as wide as the channels.

use burn::tensor::{FloatDType, Tensor, activation::softmax};

use super::{Act, Conv2d, GroupNorm, Loader, Ops, resnet::EPS};
use crate::{Error, flops};

/// Scores that exist at one time, so that memory does not grow with the square of the tokens.
const SCORES: usize = 1 << 24;

/// `x + to_out(softmax(q k / sqrt(C)) v)` with `q, k, v` linear in `norm(x)`, over all pixels.
#[derive(Debug)]
pub(crate) struct Attention<B: Ops> {
    pub(crate) norm: GroupNorm<B>,
    to_q: Conv2d<B>,
    to_k: Conv2d<B>,
    to_v: Conv2d<B>,
    to_out: Conv2d<B>,
    /// How tokens attend: [`attend`], but for tests of what would be noticed.
    pub(crate) attend: Attend<B>,
}

/// From queries, keys and values, each `[batch, tokens, channels]`.
type Attend<B> = fn(Tensor<B, 3>, Tensor<B, 3>, Tensor<B, 3>) -> Tensor<B, 3>;

impl<B: Ops> Attention<B> {
    pub(crate) fn load(
        load: &mut Loader<'_, B>,
        name: &str,
        channels: usize,
        groups: usize,
    ) -> Result<Self, Error> {
        Ok(Self {
            norm: load.group_norm(&format!("{name}.group_norm"), channels, groups, EPS)?,
            to_q: load.linear(&format!("{name}.to_q"), channels)?,
            to_k: load.linear(&format!("{name}.to_k"), channels)?,
            to_v: load.linear(&format!("{name}.to_v"), channels)?,
            to_out: load.linear(&format!("{name}.to_out.0"), channels)?,
            attend,
        })
    }

    pub(crate) fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [n, h, w, c] = x.dims();
        let t = B::group_norm(x.clone(), &self.norm, Act::None);
        let tokens = |conv: &Conv2d<B>| conv.forward(t.clone()).reshape([n, h * w, c]);
        let (q, k, v) = (tokens(&self.to_q), tokens(&self.to_k), tokens(&self.to_v));
        drop(t);
        let o = (self.attend)(q, k, v).reshape([n, h, w, c]);
        self.to_out.add(o, x, Act::None)
    }
}

/// [`attend`] over the tokens of clips, where each sees those of its own frame and of the frames before
/// it. A frame has `tokens` of them. `q` is of the last frames of `k` and `v`.
pub(crate) fn attend_causally<B: Ops>([q, k, v]: [Tensor<B, 3>; 3], tokens: usize) -> Tensor<B, 3> {
    let [frames, all] = [&q, &k].map(|x| x.dims()[1] / tokens);
    let outputs = (0..frames).map(|frame| {
        let q = q.clone().narrow(1, frame * tokens, tokens);
        let seen = (all - frames + frame + 1) * tokens;
        let seen = |x: &Tensor<B, 3>| x.clone().narrow(1, 0, seen);
        attend(q, seen(&k), seen(&v))
    });
    Tensor::cat(outputs.collect(), 1)
}

/// Single-head attention of `[batch, tokens, channels]`, over a slice of the queries at a time.
pub(crate) fn attend<B: Ops>(q: Tensor<B, 3>, k: Tensor<B, 3>, v: Tensor<B, 3>) -> Tensor<B, 3> {
    let [n, queries, c] = q.dims();
    let tokens = k.dims()[1];
    let dtype = q.dtype();
    flops::note(&[2, n, queries, tokens, c]);
    let q = q.mul_scalar((c as f64).powf(-0.5));
    let k = k.swap_dims(1, 2);
    let rows = (SCORES / (n * tokens)).clamp(1, queries);
    let slices = (0..queries).step_by(rows).map(|start| {
        let q = q.clone().narrow(1, start, rows.min(queries - start));
        let scores = B::matmul(q, k.clone()).cast(FloatDType::F32);
        B::matmul(softmax(scores, 2).cast(dtype), v.clone())
    });
    Tensor::cat(slices.collect(), 1)
}
