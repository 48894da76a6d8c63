//! A real replica on a real socket, and callers of every kind.

// clippy's exception for tests does not cover the helpers of tests.
#![allow(clippy::unwrap_used)]

mod ahead;
mod clips;
mod deploy;
mod devices;
mod drain;
mod encode;
mod faults;
mod figures;
mod files;
mod fuzz;
mod harness;
mod infer;
mod infer_around;
mod infer_refusals;
mod inference;
mod load;
mod peers;
mod process;
mod raw;
mod refusals;
mod reload;
mod security;
mod services;
mod tracing;
mod videos;
