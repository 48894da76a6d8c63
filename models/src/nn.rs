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
mod rms;
mod shuffle;

pub(crate) use act::Act;
pub(crate) use attention::{Attention, attend};
pub(crate) use conv::{Conv2d, ConvShape};
pub(crate) use loader::Loader;
pub(crate) use norm::GroupNorm;
pub(crate) use ops::{Fetch, Ops, PlainKernel, Post, Pre, plain_convolve, unreadable};
pub(crate) use resnet::ResnetBlock;
pub(crate) use rms::{Floor, RmsNorm};
pub(crate) use shuffle::{Order, group_mean, space_to_depth};
