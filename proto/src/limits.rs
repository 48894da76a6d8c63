//! Every bound on the wire, by name. A replica may be configured tighter, never looser.

/// Bytes of the rkyv metadata of one message.
pub const MAX_META_BYTES: usize = 256 * 1024;

/// Items of one Encode call.
pub const MAX_ITEMS: usize = 1024;

/// Payloads (images, or frames of clips) of one Encode call.
pub const MAX_PAYLOADS: usize = 4096;

/// Bytes of one gRPC message, in either direction.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Width times height that one source image may declare: 64 megapixels, 192 MiB as RGB.
pub const MAX_SOURCE_PIXELS: u64 = 64 * 1024 * 1024;

/// One side of a source or of an output, in pixels.
pub const MAX_SIDE: u32 = 32_768;

/// Frames of one clip.
pub const MAX_FRAMES: u32 = 1024;

/// Width times height times frames of the outputs of one call.
pub const MAX_OUTPUT_PIXELS: u64 = 128 * 1024 * 1024;

/// Bytes of the message that explains why an item failed; longer ones are cut.
pub const MAX_ITEM_MESSAGE_BYTES: usize = 512;

/// Every tensor of an answer starts at a multiple of this many bytes.
pub const TENSOR_ALIGN: usize = 64;

/// Bytes of an archived item, generously: the const assertion below keeps the limits consistent.
const ITEM_META_BYTES: usize = 96;

const _: () = assert!(MAX_ITEMS * ITEM_META_BYTES <= MAX_META_BYTES);
const _: () = assert!(MAX_ITEMS <= MAX_PAYLOADS);
const _: () = assert!(MAX_META_BYTES < MAX_MESSAGE_BYTES);
const _: () = assert!(MAX_SOURCE_PIXELS <= u32::MAX as u64 / 4);
const _: () = assert!(TENSOR_ALIGN.is_power_of_two());
