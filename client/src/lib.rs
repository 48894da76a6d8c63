#![doc = include_str!("../README.md")]

mod bad;
pub mod balance;
pub mod batch;
pub mod cache;
pub mod config;
pub mod dataset;
mod decode;
mod embed;
pub mod encoder;
mod endpoint;
mod error;
pub mod filter;
mod headspace;
mod layouts;
mod loader;
mod metrics;
mod model;
mod pipeline;
pub mod plan;
mod prepare;
mod reach;
#[cfg(feature = "relay")]
pub mod relay;
mod security;
mod stack;
mod state;
mod stats;
mod window;
pub mod wire;

pub use bad::{LEAST_SEEN, MAX_REPORTED};
pub use batch::{Batch, ClipInfo, LATENTS_ALIGN, Latents, SampleInfo};
pub use cache::{CacheConfig, CacheMode, CacheStats, CacheWhat};
pub use config::{
    BadSamples, Block, Bucketing, ClipEncoding, Config, Crop, Shuffle, SmallBuckets, Subset, Tail,
    Weights,
};
pub use dataset::{Check, Dataset, Mix, MixSource, Progress, Source};
pub use encoder::{Encoded, Encoder, EncoderConfig, Keys, Pending, Picture, Request};
pub use error::Error;
pub use layouts::LAYOUT_IN_MEMORY;
pub use loader::{DataLoader, Epoch};
pub use model::Model;
pub use plan::{Pace, Rate, Seconds, Share, Start};
pub use preheat_proto::{DType, Filter, Posterior, Scale};
pub use prepare::MAX_SUBSTITUTES;
pub use security::{Bearer, Security};
pub use state::{Identity, MAX_STATE_BYTES, STATE_VERSION, State};
pub use stats::{BadSample, Bound, Latency, MAX_BAD_LISTED, SHORTEST_WAIT, Stage, Stages, Stats};
