//! The integration tests of the crate, in one binary.

#[cfg(feature = "cpu")]
mod checkpoint;
#[cfg(feature = "cpu")]
mod device;
mod image;
#[cfg(feature = "cpu")]
mod parity;
mod posterior;
