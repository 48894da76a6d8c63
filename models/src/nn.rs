//! The blocks that the families share. Everything here is generic over burn's backend.
//!
//! Activations are `[batch, height, width, channels]`: the order in which convolutions and norms are
//! fast on every device that we serve. The frames of a clip lie along the batch: so a convolution over
//! time is a 2-D one over frames side by side, and every backend's 2-D kernels serve clips.

mod act;
mod attention;
mod causal;
mod causal_attention;
mod clip;
mod conv;
mod layer;
mod loader;
mod norm;
mod ops;
mod pad;
mod past;
mod resnet;
mod rms;
mod shuffle;

pub(crate) use act::Act;
pub(crate) use attention::{Attention, attend, attend_causally};
pub(crate) use causal::{Before, CausalConv};
pub(crate) use causal_attention::{CausalAttention, so_far};
pub(crate) use clip::{ClipBlock, ClipBlocks, ClipNorm, Norms, pointwise};
pub(crate) use conv::{Conv2d, ConvShape};
pub(crate) use layer::LayerNorm;
pub(crate) use loader::Loader;
pub(crate) use norm::GroupNorm;
pub(crate) use ops::{
    Fetch, Frames, Ops, PlainKernel, Post, Pre, plain_convolve, plain_convolve_over, unreadable,
};
pub(crate) use pad::{Edge, pad};
pub(crate) use past::Past;
pub(crate) use resnet::ResnetBlock;
pub(crate) use rms::{Floor, RmsNorm};
pub(crate) use shuffle::{Order, group_mean, space_to_depth, time_to_depth};
