#![doc = include_str!("../README.md")]

pub mod batch;
pub mod dtype;
pub mod error;
pub mod headers;
pub mod limits;
pub mod rope;
pub mod screen;
pub mod tame;

/// Generated from `preheat/v1/encoder.proto`; `tests/it/stubs.rs` regenerates and compares it.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!("gen/preheat.v1.rs");
}

/// Generated from `inference/open_inference.proto`, in the same way.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod inference {
    include!("gen/inference.rs");
}

/// The compiled descriptors of this crate's services, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.bin");

pub use batch::{
    Filter, ItemMeta, ItemReply, META_VERSION, Meta, Posterior, ReplyMeta, RequestMeta, Scale,
    Source,
};
pub use dtype::DType;
pub use error::{Code, Error, ItemCode};
