//! JPEG, through zune-jpeg; our own walk over the markers decides what reaches it.

use std::borrow::Cow;

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use self::markers::Frame;
use super::{
    ImageError,
    decode::{Stored, bad},
};

mod markers;

/// Scans of one JPEG. Encoders write about ten; each one costs a pass over all coefficients however
/// few bytes it has, so that thousands of them would be a way to spend our time.
pub const MAX_SCANS: usize = 64;

/// No entropy code is shorter than a bit, so that an 8x8 block takes at least one. Subsampling in
/// both directions leaves a quarter of the blocks, and a little slack.
const MAX_BLOCKS_PER_BYTE: usize = 8 * 4;

pub(super) fn header(bytes: &[u8]) -> Result<Stored<'_>, ImageError> {
    let frame = Frame::of_header(bytes)?;
    let (width, height) = (u32::from(frame.width), u32::from(frame.height));
    Ok(Stored {
        width,
        height,
        exif: frame.exif,
    })
}

pub(super) fn decode(bytes: &[u8], width: u32, height: u32) -> Result<Vec<u8>, ImageError> {
    let frame = Frame::of_file(bytes)?;
    check(&frame, bytes.len())?;
    let (input, output) = colors(&frame, bytes);
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(output)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .set_strict_mode(true)
        .jpeg_set_max_scans(MAX_SCANS);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*input), options);
    let mut rgb = vec![0; width as usize * height as usize * 3];
    decoder.decode_into(&mut rgb).map_err(|error| {
        let what = if frame.ended { "damaged" } else { "truncated" };
        bad(&format!("a {what} JPEG: {}", error.to_string().trim()))
    })?;
    Ok(rgb)
}

fn check(frame: &Frame<'_>, bytes: usize) -> Result<(), ImageError> {
    if frame.scans > MAX_SCANS {
        let text = format!(
            "a JPEG of {} scans; up to {MAX_SCANS} are decoded",
            frame.scans
        );
        return Err(ImageError::Unsupported(text));
    }
    let (width, height) = (usize::from(frame.width), usize::from(frame.height));
    if width.div_ceil(8) * height.div_ceil(8) > bytes.saturating_mul(MAX_BLOCKS_PER_BYTE) {
        let text = format!("a JPEG that declares {width}x{height} pixels in {bytes} bytes");
        return Err(bad(&text));
    }
    Ok(())
}

/// What to decode, and into which colours, to end with RGB.
///
/// zune-jpeg takes `transform 0` in Adobe's marker for CMYK whatever the number of components. With
/// three it means RGB and with one it means nothing, so the marker is left out there; RGB passes as
/// "YCbCr to YCbCr", which copies.
fn colors<'a>(frame: &Frame<'_>, bytes: &'a [u8]) -> (Cow<'a, [u8]>, ColorSpace) {
    let Some(adobe) = frame.adobe.as_ref().filter(|_| frame.components < 4) else {
        return (Cow::Borrowed(bytes), ColorSpace::RGB);
    };
    let without = [&bytes[..adobe.segment.start], &bytes[adobe.segment.end..]].concat();
    let copy = frame.components == 3 && adobe.transform == 0 && !frame.jfif && !frame.named_rgb;
    (
        Cow::Owned(without),
        if copy {
            ColorSpace::YCbCr
        } else {
            ColorSpace::RGB
        },
    )
}
