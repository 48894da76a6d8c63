//! Values of columns: numbers as text, raw pixels as an image.

use std::io::Cursor;

use bytes::Bytes;
use image::{
    ExtendedColorType, ImageEncoder,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};

use super::table::Column;
use crate::{
    dataset::{format, probe},
    plan::Size,
};

/// Bytes that hold the size and the mode of raw pixels: three numbers and the longest mode's name.
pub(super) const PIL_HEAD: u64 = 12 + 16;

/// A part as it leaves the dataset: numbers in decimal, texts checked, the rest as stored.
pub(super) fn text(column: &Column, bytes: Bytes) -> Result<Bytes, String> {
    let name = &column.name;
    macro_rules! number {
        ($kind:ty) => {{
            let value = bytes.as_ref().try_into().map(<$kind>::from_le_bytes);
            let value = value.map_err(|_| format!("its `{name}` has {} bytes", bytes.len()))?;
            Ok(value.to_string().into())
        }};
    }
    match column.encoding.as_str() {
        "int" | "int64" => number!(i64),
        "int32" => number!(i32),
        "int16" => number!(i16),
        "int8" => number!(i8),
        "uint64" => number!(u64),
        "uint32" => number!(u32),
        "uint16" => number!(u16),
        "uint8" => number!(u8),
        "float64" => number!(f64),
        "float32" => number!(f32),
        kind if kind.starts_with("str") || kind == "json" => format::text(name, bytes),
        _ => Ok(bytes),
    }
}

/// The size of raw pixels.
pub(super) fn pil_size(head: &[u8]) -> Result<Size, String> {
    let (size, _, _) = pil(head)?;
    probe::within_limits(size)
}

/// Raw pixels as a PNG, which replicas decode to the same pixels.
pub(super) fn png(stored: &[u8]) -> Result<Bytes, String> {
    let (size, colour, start) = pil(stored)?;
    let pixels = &stored[start..];
    let expected = size.area() * u64::from(colour.channel_count());
    if pixels.len() as u64 != expected {
        let bytes = pixels.len();
        return Err(format!(
            "has {bytes} bytes of pixels, not {expected} for {size}"
        ));
    }
    let mut encoded = Cursor::new(Vec::with_capacity(pixels.len() / 2));
    // The network to the replica is near: speed before size.
    PngEncoder::new_with_quality(&mut encoded, CompressionType::Fast, FilterType::Up)
        .write_image(pixels, size.width, size.height, colour)
        .map_err(|error| format!("cannot be encoded: {error}"))?;
    let encoded = encoded.into_inner();
    format::image_bytes(encoded.len() as u64)?;
    Ok(encoded.into())
}

/// Size, kind of pixels, and where they begin.
fn pil(stored: &[u8]) -> Result<(Size, ExtendedColorType, usize), String> {
    let word = |at: usize| {
        let bytes = stored.get(at..at + 4).and_then(|word| word.try_into().ok());
        bytes.map(u32::from_le_bytes)
    };
    let (Some(width), Some(height), Some(mode_bytes)) = (word(0), word(4), word(8)) else {
        return Err("is too short for raw pixels".into());
    };
    let start = 12_usize.saturating_add(mode_bytes as usize);
    let mode = stored.get(12..start).unwrap_or_default();
    let colour = match mode {
        b"RGB" => ExtendedColorType::Rgb8,
        b"RGBA" => ExtendedColorType::Rgba8,
        b"L" => ExtendedColorType::L8,
        b"LA" => ExtendedColorType::La8,
        _ => {
            let mode = String::from_utf8_lossy(mode);
            return Err(format!("has pixels of mode `{mode}`: convert them to RGB"));
        }
    };
    Ok((Size::new(width, height), colour, start))
}
