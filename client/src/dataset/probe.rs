//! The size of an image from its first bytes, without decoding it.

use std::{
    fs::File,
    io::{BufReader, Cursor, Read, Seek},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use image::{
    ImageDecoder, ImageFormat, ImageReader, codecs::webp::WebPDecoder, guess_format,
    metadata::Orientation,
};
use preheat_proto::limits;

use super::{MAX_FILE_BYTES, Probed};
use crate::plan::Size;

/// What replicas decode.
const FORMATS: [ImageFormat; 3] = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP];
/// How much of a file is read at first.
const FIRST_BYTES: u64 = 64 * 1024;
/// How much is read at most, doubling: profiles and thumbnails can come before the size.
const MAX_HEADER_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes of a file, and its size with the EXIF orientation applied or why it is bad.
pub(super) fn probe(path: &Path) -> Probed {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (bytes, file) = match opened {
        Ok(opened) => opened,
        Err(error) => return (0, Err(format!("cannot open: {error}"))),
    };
    (bytes, size(file, bytes))
}

/// Size of the image in `bytes` bytes, with the EXIF orientation applied, or why it is bad.
pub(crate) fn size(image: impl Read + Seek, bytes: u64) -> Result<Size, String> {
    // Codecs meet strangers' bytes here, and a panic of theirs is one bad file, not a crash.
    let read = catch_unwind(AssertUnwindSafe(|| header(image, bytes)));
    let size = read.unwrap_or_else(|_| Err("damaged: the codec gave up".into()));
    size.and_then(within_limits)
}

fn header(mut file: impl Read + Seek, bytes: u64) -> Result<Size, String> {
    if bytes == 0 {
        return Err("is empty".into());
    }
    if bytes > MAX_FILE_BYTES {
        return Err(format!("has {bytes} bytes, over {MAX_FILE_BYTES}"));
    }
    let mut head = Vec::new();
    let mut want = FIRST_BYTES;
    loop {
        let missing = want - head.len() as u64;
        Read::by_ref(&mut file)
            .take(missing)
            .read_to_end(&mut head)
            .map_err(|error| format!("cannot read: {error}"))?;
        let format = guess_format(&head)
            .ok()
            .filter(|format| FORMATS.contains(format));
        let format = format.ok_or("not a JPEG, PNG or WebP image")?;
        if format == ImageFormat::WebP {
            // Its EXIF may be the last chunk; the decoder seeks from chunk to chunk.
            file.rewind()
                .map_err(|error| format!("cannot read: {error}"))?;
            let decoder = WebPDecoder::new(BufReader::new(file));
            return decoder.and_then(oriented).map_err(damaged);
        }
        let reader = ImageReader::with_format(Cursor::new(&head), format);
        match reader.into_decoder().and_then(oriented) {
            Ok(size) => return Ok(size),
            Err(error) if head.len() as u64 >= bytes => return Err(damaged(error)),
            Err(error) if want >= MAX_HEADER_BYTES => {
                let reason = damaged(error);
                return Err(format!("{reason}, in its first {MAX_HEADER_BYTES} bytes"));
            }
            Err(_) => want *= 2,
        }
    }
}

fn oriented(mut decoder: impl ImageDecoder) -> image::ImageResult<Size> {
    let (width, height) = decoder.dimensions();
    Ok(match decoder.orientation()? {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => Size::new(height, width),
        _ => Size::new(width, height),
    })
}

/// A size that replicas take.
pub(crate) fn within_limits(size: Size) -> Result<Size, String> {
    let (most, side) = (limits::MAX_SOURCE_PIXELS, limits::MAX_SIDE);
    if size.area() == 0 {
        return Err(format!("declares {size} pixels"));
    }
    if size.area() > most || size.width.max(size.height) > side {
        return Err(format!(
            "declares {size} pixels, over the limit of {most} in all and {side} along a side"
        ));
    }
    Ok(size)
}

fn damaged(error: image::ImageError) -> String {
    format!("damaged header: {error}")
}
