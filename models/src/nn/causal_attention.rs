//! Attention over the pixels of all frames up to each pixel's own.

use burn::tensor::Tensor;

use super::{Act, ClipNorm, Conv2d, Ops, Past, attend, attend_causally};

/// `x + proj(softmax(q k / sqrt(C)) v)` with `q, k, v` linear in `norm(x)`: one head, over all pixels
/// of a frame and of those before it.
#[derive(Debug)]
pub(crate) struct CausalAttention<B: Ops> {
    pub(crate) norm: ClipNorm<B>,
    pub(crate) to_q: Conv2d<B>,
    pub(crate) to_k: Conv2d<B>,
    pub(crate) to_v: Conv2d<B>,
    pub(crate) proj: Conv2d<B>,
}

impl<B: Ops> CausalAttention<B> {
    pub(crate) fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let [n, h, w, c] = x.dims();
        let t = self.norm.forward(x.clone(), past, Act::None);
        let [q, k, v] = [&self.to_q, &self.to_k, &self.to_v].map(|conv| conv.forward(t.clone()));
        drop(t);
        let o = match past.is_still() {
            true => {
                let tokens = |x: Tensor<B, 4>| x.reshape([n, h * w, c]);
                attend(tokens(q), tokens(k), tokens(v))
            }
            false => {
                let qkv = [q, so_far(k, past), so_far(v, past)];
                let tokens = |x: Tensor<B, 4>| {
                    let frames = x.dims()[0];
                    x.reshape([1, frames * h * w, c])
                };
                attend_causally(qkv.map(tokens), h * w)
            }
        };
        self.proj.add(o.reshape([n, h, w, c]), x, Act::None)
    }
}

/// The frames of all chunks up to this one, which the next will see too. They are copied at every
/// chunk, which is nothing beside what is computed from them.
pub(crate) fn so_far<B: Ops>(x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
    let before = match past.is_first() {
        true => None,
        false => past.kept(),
    };
    let all = match before {
        Some(before) => Tensor::cat(vec![before, x], 0),
        None => x,
    };
    past.keep(Some(all.clone()));
    all
}
