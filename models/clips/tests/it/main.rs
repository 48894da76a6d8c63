//! Real files through a real FFmpeg, and processes that misbehave.

// clippy's exception for tests does not cover the helpers of tests.
#![allow(clippy::unwrap_used)]

mod bad;
mod children;
mod encodings;
mod exact;
mod shown;
mod with;
