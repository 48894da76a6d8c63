//! From the pixels of a frame to what was asked for.

use bytes::Bytes;
use image::{ExtendedColorType, ImageEncoder, codecs::png};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::{ClipError, Encoding};

/// From this quality on colours keep their resolution.
const FULL_COLOURS: u8 = 90;

/// Encodes `height x width x 3` bytes of RGB.
pub(crate) fn encode(
    rgb: Vec<u8>,
    [width, height]: [u32; 2],
    encoding: Encoding,
) -> Result<Bytes, ClipError> {
    match encoding {
        Encoding::Jpeg { quality } => jpeg(&rgb, [width, height], quality),
        Encoding::Png => {
            let mut out = Vec::new();
            // Speed: the rest of the pipeline waits for none of these bytes twice.
            let encoder = png::PngEncoder::new_with_quality(
                &mut out,
                png::CompressionType::Fast,
                png::FilterType::Sub,
            );
            encoder
                .write_image(&rgb, width, height, ExtendedColorType::Rgb8)
                .map_err(|error| failed("PNG", error.to_string()))?;
            Ok(out.into())
        }
        Encoding::Rgb8 | Encoding::Source => Ok(rgb.into()),
    }
}

fn jpeg(rgb: &[u8], [width, height]: [u32; 2], quality: u8) -> Result<Bytes, ClipError> {
    let side = |length: u32| {
        u16::try_from(length).map_err(|_| {
            failed(
                "JPEG",
                format!("{length} pixels are more than 65535, which is all that it can hold"),
            )
        })
    };
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, quality);
    encoder.set_sampling_factor(if quality >= FULL_COLOURS {
        SamplingFactor::F_1_1
    } else {
        SamplingFactor::F_2_2
    });
    encoder
        .encode(rgb, side(width)?, side(height)?, ColorType::Rgb)
        .map_err(|error| failed("JPEG", error.to_string()))?;
    Ok(out.into())
}

fn failed(format: &str, why: String) -> ClipError {
    ClipError::Cut {
        reason: format!("a frame cannot be written as {format}: {why}"),
    }
}
