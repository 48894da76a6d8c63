//! Black-box tests of the wire contract.

mod golden;
mod hostile;
mod stubs;
