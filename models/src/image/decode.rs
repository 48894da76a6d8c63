//! The door for strangers' bytes: which format, how large, then the decoder behind a guard.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Format, Header, ImageError, Rgb, jpeg, orient::Orientation, png, webp};

/// Pixels of one side of a picture; larger ones are refused whatever their area. A resize needs
/// memory in proportion to the sides, not to the area.
pub const MAX_SIDE: u32 = 65_535;

/// A header as stored: the size before orientation, and where the EXIF block lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) exif: Option<&'a [u8]>,
}

/// Reads format, size and orientation. Nothing is allocated.
///
/// # Errors
/// [`ImageError::Bad`] for bytes that are no picture or end within the header,
/// [`ImageError::TooLarge`] above `max_pixels`, [`ImageError::Unsupported`] for what is not decoded.
pub fn probe(bytes: &[u8], max_pixels: u64) -> Result<Header, ImageError> {
    let format = format(bytes)?;
    let stored = match format {
        Format::Jpeg => jpeg::header(bytes)?,
        Format::Png => png::header(bytes)?,
        Format::WebP => webp::header(bytes)?,
    };
    let orientation = stored
        .exif
        .map_or(Orientation::Upright, Orientation::from_exif);
    let (width, height) = orientation.size(stored.width, stored.height);
    check_size(width, height, max_pixels)?;
    Ok(Header {
        format,
        width,
        height,
        orientation,
    })
}

/// Decodes to upright RGB, as PIL's `exif_transpose` and `convert("RGB")` do: alpha is dropped,
/// palettes and grays are expanded, of 16 bits the high byte stays, of an animation the first frame.
///
/// A JPEG whose coefficient data ends early or cannot be parsed is refused, where PIL would fill
/// with gray; see [`MAX_SCANS`](super::MAX_SCANS) for what else is refused. Bytes after the end of
/// the picture are ignored. A panic of a decoder becomes an error.
///
/// # Errors
/// As [`probe`], and [`ImageError::Bad`] for truncated or damaged data.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Rgb, ImageError> {
    let header = probe(bytes, max_pixels)?;
    let (width, height) = header.orientation.size(header.width, header.height);
    let decoder = match header.format {
        Format::Jpeg => jpeg::decode,
        Format::Png => png::decode,
        Format::WebP => webp::decode,
    };
    // The decoders are safe code with a history of panics on hostile input. They own nothing that
    // outlives the call, so an unwind leaves nothing half done.
    let data = catch_unwind(AssertUnwindSafe(|| decoder(bytes, width, height)))
        .unwrap_or_else(|_| Err(bad("the decoder gave up on damaged data")))?;
    Ok(header.orientation.turn(Rgb {
        width,
        height,
        data,
    }))
}

fn format(bytes: &[u8]) -> Result<Format, ImageError> {
    match bytes {
        [] => Err(bad("the file is empty")),
        [0xff, 0xd8, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Ok(Format::WebP),
        [b'G', b'I', b'F', b'8', ..] => Err(unsupported("GIF")),
        [b'B', b'M', ..] => Err(unsupported("BMP")),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Err(unsupported("TIFF")),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Err(unsupported("HEIF, AVIF or MP4")),
        _ => {
            let start = &bytes[..bytes.len().min(4)];
            Err(bad(&format!(
                "neither JPEG, PNG nor WebP: it starts with {start:02x?}"
            )))
        }
    }
}

fn unsupported(seen: &str) -> ImageError {
    ImageError::Unsupported(format!(
        "looks like {seen}; only JPEG, PNG and WebP are decoded"
    ))
}

fn check_size(width: u32, height: u32, limit: u64) -> Result<(), ImageError> {
    if width == 0 || height == 0 {
        return Err(bad(&format!(
            "declares {width}x{height} pixels, which is no picture"
        )));
    }
    if u64::from(width) * u64::from(height) > limit {
        let (width, height) = (width.into(), height.into());
        return Err(ImageError::TooLarge {
            width,
            height,
            limit,
        });
    }
    if width.max(height) > MAX_SIDE {
        let text = format!("declares {width}x{height} pixels; a side may have {MAX_SIDE}");
        return Err(ImageError::Unsupported(text));
    }
    Ok(())
}

pub(super) fn bad(text: &str) -> ImageError {
    ImageError::Bad(text.to_owned())
}

/// Big-endian, or `None` past the end.
pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

/// Big-endian, or `None` past the end.
pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

/// Little-endian, or `None` past the end.
pub(super) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}
