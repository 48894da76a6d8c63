//! The real loader against scripted replicas, in one process, on ports that the system picks.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod bad_samples;
mod dataset;
mod failures;
mod fleet;
mod formats;
mod objects;
mod order;
mod photos;
mod proxy;
#[cfg(feature = "relay")]
mod relay;
mod security;
mod shards;
mod stores;
mod stub;
mod window;
