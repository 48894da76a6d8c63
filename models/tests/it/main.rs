//! The integration tests of the crate, in one binary.

#[cfg(feature = "cpu")]
mod checkpoint;
mod device;
mod image;
#[cfg(feature = "cpu")]
mod parity;
mod posterior;
