//! The integration tests of the crate, in one binary.

#[cfg(feature = "cpu")]
mod checkpoint;
#[cfg(feature = "cpu")]
mod clamp;
#[cfg(feature = "cpu")]
mod clips;
#[cfg(feature = "cpu")]
mod damage;
#[cfg(feature = "cpu")]
mod device;
#[cfg(feature = "cpu")]
mod hollow;
mod image;
#[cfg(feature = "cpu")]
mod lengths;
#[cfg(all(feature = "cpu", target_os = "linux"))]
mod long_clip;
#[cfg(feature = "cpu")]
mod parity;
mod posterior;
#[cfg(feature = "cpu")]
mod published;
