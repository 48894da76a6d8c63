//! The blocks that the families share. Everything here is generic over burn's backend.
//!
//! Activations are `[batch, height, width, channels]`: the order in which convolutions and norms are
//! fast on every device that we serve.

mod act;
mod attention;
mod conv;
mod loader;
mod norm;
mod ops;
mod resnet;

pub(crate) use act::Act;
pub(crate) use attention::Attention;
pub(crate) use conv::{Conv2d, ConvShape};
pub(crate) use loader::Loader;
pub(crate) use norm::GroupNorm;
pub(crate) use ops::{Ops, PlainKernel, Post, Pre, plain_convolve, plain_group_norm};
pub(crate) use resnet::ResnetBlock;
