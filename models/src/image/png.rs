//! PNG, through the `image` crate.

use std::io::Cursor;

use ::image::{ImageDecoder, Limits, codecs::png::PngDecoder};

use super::{
    ImageError,
    decode::{Stored, bad, be32},
};

/// What decoding may allocate beside the pixels: rows, palettes, colour profiles, texts.
const MAX_EXTRA_BYTES: u64 = 16 * 1024 * 1024;

const SIGNATURE: usize = 8;

pub(super) fn header(bytes: &[u8]) -> Result<Stored<'_>, ImageError> {
    let ends = || bad("a PNG that ends within its header");
    let name = bytes.get(SIGNATURE + 4..SIGNATURE + 8).ok_or_else(ends)?;
    if name != b"IHDR" {
        return Err(bad("a PNG whose first chunk is not IHDR"));
    }
    let width = be32(bytes, SIGNATURE + 8).ok_or_else(ends)?;
    let height = be32(bytes, SIGNATURE + 12).ok_or_else(ends)?;
    Ok(Stored {
        width,
        height,
        exif: exif(bytes),
    })
}

/// The eXIf chunk, where it comes before the pixels.
fn exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = SIGNATURE;
    loop {
        let length = be32(bytes, at)? as usize;
        let data = bytes.get(at + 8..)?;
        match bytes.get(at + 4..at + 8)? {
            b"eXIf" => return data.get(..length),
            b"IDAT" => return None,
            _ => at = at.checked_add(length)?.checked_add(12)?,
        }
    }
}

pub(super) fn decode(bytes: &[u8], width: u32, height: u32) -> Result<Vec<u8>, ImageError> {
    let pixels = width as usize * height as usize;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(pixels as u64 * 8 + MAX_EXTRA_BYTES);
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(damaged)?;
    let color = decoder.color_type();
    let channels = usize::from(color.channel_count());
    let depth = usize::from(color.bytes_per_pixel()) / channels;
    let mut raw = vec![0; pixels * channels * depth];
    decoder.read_image(&mut raw).map_err(damaged)?;
    if (channels, depth) == (3, 1) {
        return Ok(raw);
    }
    // Samples of 16 bits are in native order.
    let high = if depth == 2 && cfg!(target_endian = "little") {
        1
    } else {
        0
    };
    let mut rgb = Vec::with_capacity(pixels * 3);
    for pixel in raw.chunks_exact(channels * depth) {
        let sample = |channel: usize| pixel[channel * depth + high];
        let [r, g, b] = if channels < 3 { [0; 3] } else { [0, 1, 2] };
        rgb.extend([sample(r), sample(g), sample(b)]);
    }
    Ok(rgb)
}

fn damaged(error: ::image::ImageError) -> ImageError {
    bad(&format!("a damaged PNG: {error}"))
}
