#![doc = include_str!("../README.md")]

pub mod balance;
pub mod batch;
pub mod config;
pub mod dataset;
mod embed;
mod endpoint;
mod error;
mod loader;
mod metrics;
mod model;
mod pipeline;
pub mod plan;
mod prepare;
#[cfg(feature = "relay")]
pub mod relay;
mod security;
mod stack;
mod state;
mod stats;
mod window;
pub mod wire;

pub use batch::{Batch, Latents, SampleInfo};
pub use config::{BadSamples, Config, Crop, Shuffle, Tail};
pub use dataset::{Check, Dataset, Progress, Source};
pub use error::Error;
pub use loader::{DataLoader, Epoch};
pub use model::Model;
pub use preheat_proto::{DType, Filter, Posterior, Scale};
pub use prepare::MAX_SUBSTITUTES;
pub use security::{Bearer, Security};
pub use state::{Identity, MAX_STATE_BYTES, STATE_VERSION, State};
pub use stats::{BadSample, MAX_BAD_LISTED, SHORTEST_WAIT, Stats};
