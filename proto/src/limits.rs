//! Every bound on the wire, by name. A replica may be configured tighter, never looser.

/// Bytes of the rkyv metadata of one message.
pub const MAX_META_BYTES: usize = 256 * 1024;

/// Items of one Encode call.
pub const MAX_ITEMS: usize = 1024;

/// Payloads (images, or frames of clips) of one Encode call, and frames of all its items together,
/// however they are sent.
pub const MAX_PAYLOADS: usize = 4096;

/// Bytes of one gRPC message that is in memory as a whole: every answer, and a request that is
/// compressed or of the second protocol.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of one native request, whose payloads are taken one by one as they come: 121 raw frames of
/// 1280x720 fit.
pub const MAX_REQUEST_BYTES: usize = 384 * 1024 * 1024;

/// Bytes of one payload: it is in memory as a whole before it is decoded.
pub const MAX_PAYLOAD_BYTES: usize = MAX_MESSAGE_BYTES;

/// Width times height that one source image may declare: 64 megapixels, 192 MiB as RGB.
pub const MAX_SOURCE_PIXELS: u64 = 64 * 1024 * 1024;

/// One side of a source or of an output, in pixels.
pub const MAX_SIDE: u32 = 32_768;

/// Frames of one clip: 42 s of film. No VAE of today is given more than a quarter of that at once.
pub const MAX_FRAMES: u32 = 1024;

/// Width times height times frames of the outputs of one call: 121 frames of 1280x720 fit, which is
/// as much as one clip of today's models has.
pub const MAX_OUTPUT_PIXELS: u64 = 128 * 1024 * 1024;

/// Bytes of the message that explains why an item failed; longer ones are cut.
pub const MAX_ITEM_MESSAGE_BYTES: usize = 512;

/// Every tensor of an answer starts at a multiple of this many bytes.
pub const TENSOR_ALIGN: usize = 64;

/// Bytes of an archived item, generously: the const assertion below keeps the limits consistent.
const ITEM_META_BYTES: usize = 104;

/// Bytes of the timestamp of one frame of a video.
const TIME_BYTES: usize = 8;

const _: () = assert!(MAX_ITEMS * ITEM_META_BYTES + MAX_PAYLOADS * TIME_BYTES <= MAX_META_BYTES);
const _: () = assert!(121 * 1280 * 720 <= MAX_OUTPUT_PIXELS);
const _: () = assert!(MAX_FRAMES as usize <= MAX_PAYLOADS);
const _: () = assert!(MAX_ITEMS <= MAX_PAYLOADS);
const _: () = assert!(MAX_META_BYTES < MAX_MESSAGE_BYTES);
const _: () = assert!(121 * 1280 * 720 * 3 + MAX_META_BYTES < MAX_REQUEST_BYTES);
const _: () = assert!(MAX_SOURCE_PIXELS <= u32::MAX as u64 / 4);
const _: () = assert!(TENSOR_ALIGN.is_power_of_two());
