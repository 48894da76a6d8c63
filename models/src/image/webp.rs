//! WebP, through the `image` crate.

use std::io::Cursor;

use ::image::{ImageDecoder, codecs::webp::WebPDecoder};

use super::{
    ImageError,
    decode::{Stored, bad, le32},
};

/// `RIFF`, the size, `WEBP`.
const START: usize = 12;
/// Name and size of a chunk.
const CHUNK: usize = 8;
/// Position, size, duration and flags of a frame of an animation, before its chunks.
const FRAME: usize = 16;

/// A chunk of a RIFF file.
struct Chunk<'a> {
    name: [u8; 4],
    data: &'a [u8],
}

/// The chunks of a RIFF body, the last one perhaps cut short.
fn chunks(mut rest: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    std::iter::from_fn(move || {
        let (head, data) = rest.split_at_checked(CHUNK)?;
        let size = le32(head, 4)? as usize;
        let name = head[..4].try_into().ok()?;
        rest = data
            .get(size.saturating_add(size % 2)..)
            .unwrap_or_default();
        Some(Chunk {
            name,
            data: &data[..size.min(data.len())],
        })
    })
}

pub(super) fn header(bytes: &[u8]) -> Result<Stored<'_>, ImageError> {
    let body = bytes.get(START..).unwrap_or_default();
    let first = chunks(body)
        .next()
        .ok_or_else(|| bad("a WebP that ends within its header"))?;
    let canvas = match &first.name {
        b"VP8X" => first
            .data
            .get(4..10)
            .map(|size| (one_more(&size[..3]), one_more(&size[3..]))),
        _ => bitstream_size(&first),
    };
    let (width, height) = canvas.ok_or_else(|| bad("a WebP without a readable size"))?;
    if &first.name != b"VP8X" {
        return Ok(Stored {
            width,
            height,
            exif: None,
        });
    }
    check_frames(body, width, height)?;
    let exif = chunks(body)
        .find(|chunk| &chunk.name == b"EXIF")
        .map(|chunk| chunk.data);
    Ok(Stored {
        width,
        height,
        exif,
    })
}

/// The decoder allocates by the size of the bitstream before it compares that with the canvas.
fn check_frames(body: &[u8], width: u32, height: u32) -> Result<(), ImageError> {
    let inner = chunks(body).filter(|chunk| &chunk.name == b"ANMF");
    let inner = inner.flat_map(|chunk| chunks(chunk.data.get(FRAME..).unwrap_or_default()));
    for (w, h) in chunks(body)
        .chain(inner)
        .filter_map(|chunk| bitstream_size(&chunk))
    {
        if w > width || h > height {
            let text = format!("a WebP of {width}x{height} pixels with a frame of {w}x{h} in it");
            return Err(bad(&text));
        }
    }
    Ok(())
}

/// Width and height that a lossy or lossless bitstream declares.
fn bitstream_size(chunk: &Chunk<'_>) -> Option<(u32, u32)> {
    match &chunk.name {
        b"VP8 " => {
            let sides = le32(chunk.data, 6)?;
            Some((sides & 0x3fff, sides >> 16 & 0x3fff))
        }
        b"VP8L" => {
            let sides = le32(chunk.data, 1)?;
            Some(((sides & 0x3fff) + 1, (sides >> 14 & 0x3fff) + 1))
        }
        _ => None,
    }
}

fn one_more(three: &[u8]) -> u32 {
    u32::from_le_bytes([three[0], three[1], three[2], 0]) + 1
}

pub(super) fn decode(bytes: &[u8], width: u32, height: u32) -> Result<Vec<u8>, ImageError> {
    let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    if decoder.dimensions() != (width, height) {
        return Err(bad("a WebP that declares two sizes"));
    }
    let channels = usize::from(decoder.color_type().channel_count());
    let mut raw = vec![0; width as usize * height as usize * channels];
    decoder.read_image(&mut raw).map_err(damaged)?;
    if channels == 3 {
        return Ok(raw);
    }
    Ok(raw
        .chunks_exact(channels)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect())
}

fn damaged(error: ::image::ImageError) -> ImageError {
    bad(&format!("a damaged WebP: {error}"))
}
