//! The markers of a JPEG: enough to know size, colours and orientation without decoding, and whether
//! the file is worth decoding.

use std::ops::Range;

use memchr::memchr;

use crate::image::{
    ImageError,
    decode::{bad, be16},
};

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
const APP14: u8 = 0xee;

/// What the markers say.
#[derive(Debug, Default)]
pub(super) struct Frame<'a> {
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) components: u8,
    pub(super) progressive: bool,
    /// The components are called R, G and B.
    pub(super) named_rgb: bool,
    pub(super) jfif: bool,
    pub(super) adobe: Option<Adobe>,
    pub(super) exif: Option<&'a [u8]>,
    /// Scans seen.
    pub(super) scans: usize,
    /// Components in those scans, all together.
    pub(super) scanned: usize,
    /// Where the end-of-image marker lies.
    pub(super) end: Option<usize>,
}

/// Adobe's marker.
#[derive(Debug)]
pub(super) struct Adobe {
    pub(super) transform: u8,
    /// Where it lies in the file, marker included.
    pub(super) segment: Range<usize>,
}

impl<'a> Frame<'a> {
    /// Reads up to the first scan.
    pub(super) fn of_header(bytes: &'a [u8]) -> Result<Self, ImageError> {
        Self::walk(bytes, 1)
    }

    /// Reads to the end of the image, or of the bytes.
    pub(super) fn of_file(bytes: &'a [u8]) -> Result<Self, ImageError> {
        Self::walk(bytes, usize::MAX)
    }

    fn walk(bytes: &'a [u8], max_scans: usize) -> Result<Self, ImageError> {
        let mut frame = Self::default();
        let mut at = 2;
        while let Some((marker, start)) = next_marker(bytes, at) {
            at = start;
            match marker {
                EOI => {
                    frame.end = Some(start - 2);
                    break;
                }
                // These have no length.
                0x01 | 0xd0..=SOI => continue,
                _ => {}
            }
            let Some(data) = segment(bytes, start) else {
                break;
            };
            frame.read(marker, &bytes[data.clone()], start - 2..data.end)?;
            at = data.end;
            if marker == SOS && frame.scans == max_scans {
                break;
            }
        }
        match (frame.components, frame.scans) {
            (0, 0) => Err(bad("a JPEG that ends within its header")),
            (0, _) => Err(bad("a JPEG whose first scan comes before its size")),
            (_, 0) => Err(bad("a JPEG that ends before its first scan")),
            _ => Ok(frame),
        }
    }

    fn read(
        &mut self,
        marker: u8,
        data: &'a [u8],
        segment: Range<usize>,
    ) -> Result<(), ImageError> {
        match marker {
            0xc0..=0xc2 if self.components == 0 => {
                self.progressive = marker == 0xc2;
                self.read_size(data)?;
            }
            0xc0..=0xc2 => return Err(bad("a JPEG with two frame headers")),
            0xc3 | 0xc5..=0xc7 => return Err(unsupported("a lossless or hierarchical")),
            0xc9..=0xcb | 0xcd..=0xcf => {
                return Err(unsupported("an arithmetic-coded or lossless"));
            }
            SOS => {
                self.scans += 1;
                self.scanned += usize::from(data.first().copied().unwrap_or_default());
            }
            APP0 if data.starts_with(b"JFIF\0") => self.jfif = true,
            APP1 if self.exif.is_none() => self.exif = data.strip_prefix(b"Exif\0\0"),
            APP14 if data.starts_with(b"Adobe") && data.len() >= 12 => {
                self.adobe = Some(Adobe {
                    transform: data[11],
                    segment,
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn read_size(&mut self, data: &[u8]) -> Result<(), ImageError> {
        let short = || bad("a JPEG with a cut frame header");
        let [precision, _, _, _, _, components, rest @ ..] = data else {
            return Err(short());
        };
        if *precision != 8 {
            return Err(unsupported(&format!("a {precision}-bit")));
        }
        if ![1, 3, 4].contains(components) {
            return Err(unsupported(&format!("a {components}-component")));
        }
        self.height = be16(data, 1).ok_or_else(short)?;
        self.width = be16(data, 3).ok_or_else(short)?;
        self.components = *components;
        self.named_rgb = rest.iter().step_by(3).eq(b"RGB");
        Ok(())
    }
}

fn unsupported(kind: &str) -> ImageError {
    let text = format!("{kind} JPEG; 8-bit baseline and progressive ones are decoded");
    ImageError::Unsupported(text)
}

/// The next marker from `at` on and where its data starts. Skips entropy-coded data, fill bytes and
/// garbage, as libjpeg does.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += memchr(0xff, bytes.get(at..)?)? + 1;
        match *bytes.get(at)? {
            0xff => {}
            0x00 => at += 1,
            marker => return Some((marker, at + 1)),
        }
    }
}

/// The data of the segment whose length field is at `start`; cut short only by the end of the file.
fn segment(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let length = usize::from(be16(bytes, start)?);
    let end = start + length.max(2);
    (end <= bytes.len()).then_some(start + 2..end)
}
