#![doc = include_str!("../README.md")]

mod child;
mod cut;
mod encode;
mod error;
mod failure;
mod find;
#[cfg(feature = "fixtures")]
pub mod fixtures;
mod frames;
mod graph;
mod input;
mod limits;
mod pack;
mod probe;
mod said;
mod source;
mod stop;
mod turn;
mod video;

pub use cut::{Cut, Encoding, Filter, MAX_CUT_FRAMES};
pub use error::ClipError;
pub use find::Ffmpeg;
pub use frames::Frames;
pub use input::Input;
pub use limits::Limits;
pub use stop::Stop;
pub use video::Video;
