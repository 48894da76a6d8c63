//! From the bytes of a picture to RGB pixels: decode, EXIF orientation, resize, crop, flip.
//!
//! [`probe`] reads the header, [`decode`] the pixels, [`apply`] shapes them for a model, [`cover`]
//! says how to fill a given size. The reference is PIL: `ImageOps.exif_transpose(Image.open(f))
//! .convert("RGB").resize(size, filter).crop(box)`.
//!
//! Against PIL 12 with libjpeg-turbo: resizing the same pixels agrees within 1 of 255; decoding
//! agrees within 3 for grayscale and 4:4:4 JPEGs, within 6 where chroma is subsampled, and exactly
//! for PNG. `models/tests/image` holds the pictures that say so.

mod cover;
mod decode;
mod jpeg;
mod orient;
mod png;
mod resize;
mod webp;

pub use self::{
    cover::cover,
    decode::{MAX_SIDE, decode, probe},
    jpeg::MAX_SCANS,
    orient::Orientation,
    resize::{MAX_RESIZED_PIXELS, apply},
};

/// Interpolation of a resize. All antialias when they shrink, as PIL does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Filter {
    /// Triangle, support 1.
    Bilinear,
    /// Keys cubic with a = -0.5, support 2.
    Bicubic,
    /// Windowed sinc, support 3.
    #[default]
    Lanczos,
}

/// A file format that is decoded here, as told by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Baseline, extended or progressive, 8 bits, Huffman coded.
    Jpeg,
    /// All colour types and depths.
    Png,
    /// Lossy, lossless, animated (the first frame).
    WebP,
}

/// What the header of a picture says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// By magic bytes, never by name.
    pub format: Format,
    /// Pixels, after the EXIF orientation.
    pub width: u32,
    /// Pixels, after the EXIF orientation.
    pub height: u32,
    /// How the stored pixels must be turned; [`decode`] does it.
    pub orientation: Orientation,
}

/// A picture: row-major RGB bytes, `height * width * 3` of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The bytes.
    pub data: Vec<u8>,
}

/// From a source picture to a model's input, in this order: resize, crop, flip. Sizes in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transform {
    /// Width and height to resize to.
    pub resize: [u32; 2],
    /// Left and top edge of the output rectangle in the resized picture.
    pub crop: [u32; 2],
    /// Width and height of the output.
    pub size: [u32; 2],
    /// Interpolation.
    pub filter: Filter,
    /// Mirror left to right, last.
    pub flip: bool,
}

/// Why a picture cannot be used. Always the picture's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Not an image, truncated, or damaged beyond decoding.
    #[error("{0}")]
    Bad(String),
    /// Declares more pixels than the limit; nothing was allocated for it.
    #[error("declares {width}x{height} pixels, over the limit of {limit}")]
    TooLarge {
        /// Declared.
        width: u64,
        /// Declared.
        height: u64,
        /// Pixels.
        limit: u64,
    },
    /// A format or feature that is not decoded here.
    #[error("{0}")]
    Unsupported(String),
}
