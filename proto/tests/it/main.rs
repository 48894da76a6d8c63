//! Black-box tests of the wire contract.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod golden;
mod hostile;
mod inference;
mod stubs;
