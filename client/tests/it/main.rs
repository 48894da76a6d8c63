//! The real loader against scripted replicas, in one process, on ports that the system picks.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

/// Counts what lives, for [`memory`].
#[global_allocator]
static ALLOCATED: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

mod bad_samples;
mod cache;
mod cache_moments;
mod clips;
mod dataset;
mod encoder;
mod exact;
mod failures;
mod fleet;
mod formats;
mod headspace;
mod memory;
mod mix;
mod objects;
mod order;
mod photos;
mod port;
mod proxy;
#[cfg(feature = "relay")]
mod relay;
mod security;
mod seen;
mod shards;
mod stores;
mod stub;
mod window;
