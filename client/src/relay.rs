//! The balancer behind a listener: `preheat-balancer`.

pub mod admin;
mod json;
mod metrics;
mod page;
#[cfg(test)]
mod sample;
