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

/// Ones, stuffed as JPEG demands: more than the longest code and the longest number after it.
const PADDING: [u8; 16] = [
    0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0,
];

/// The end-of-image marker.
const END: [u8; 2] = [0xff, 0xd9];

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
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(colors(&frame))
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .set_strict_mode(true)
        .jpeg_set_max_scans(MAX_SCANS);
    let input = input(&frame, bytes);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*input), options);
    let mut rgb = vec![0; width as usize * height as usize * 3];
    decoder.decode_into(&mut rgb).map_err(|error| {
        let what = if frame.end.is_some() {
            "damaged"
        } else {
            "truncated"
        };
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
    // Each scan of a progressive JPEG improves a whole picture, so that only its end tells whether
    // the last one was there.
    if frame.progressive && frame.end.is_none() {
        return Err(bad(
            "a truncated JPEG: progressive, and without its end marker",
        ));
    }
    if !frame.progressive && frame.scanned < usize::from(frame.components) {
        let (scanned, components) = (frame.scanned, frame.components);
        let text = format!("a truncated JPEG: {scanned} of {components} components are there");
        return Err(bad(&text));
    }
    Ok(())
}

/// The colours to ask for to end with RGB. Samples that are RGB already pass as "YCbCr to YCbCr",
/// which copies them; with components by these names zune-jpeg knows by itself.
fn colors(frame: &Frame<'_>) -> ColorSpace {
    let adobe_rgb = frame
        .adobe
        .as_ref()
        .is_some_and(|adobe| adobe.transform == 0);
    if frame.components == 3 && adobe_rgb && !frame.jfif && !frame.named_rgb {
        ColorSpace::YCbCr
    } else {
        ColorSpace::RGB
    }
}

/// What to give to the decoder.
///
/// Without Adobe's marker unless there are four components: zune-jpeg takes its `transform 0` for
/// CMYK whatever their number, while with three it means RGB and with one nothing.
///
/// With [`PADDING`] after the data of a baseline JPEG: all ones are never a valid code, so that
/// reading on after the last byte is an error instead of a gray rest. That tells a cut file from one
/// that merely lacks its end marker.
fn input<'a>(frame: &Frame<'_>, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    let adobe = frame.adobe.as_ref().filter(|_| frame.components < 4);
    let adobe = adobe.map_or(0..0, |adobe| adobe.segment.clone());
    let end = frame.end.unwrap_or(bytes.len());
    match (frame.progressive, adobe.is_empty()) {
        (true, true) => Cow::Borrowed(bytes),
        (true, false) => Cow::Owned([&bytes[..adobe.start], &bytes[adobe.end..]].concat()),
        (false, _) => {
            let parts = [
                &bytes[..adobe.start],
                &bytes[adobe.end..end],
                &PADDING,
                &END,
            ];
            Cow::Owned(parts.concat())
        }
    }
}
