//! The contact sheet of clips: a few frames of each in a row, above the latent frames that they ended
//! up in.

use std::path::Path;

use anyhow::Context as _;
use embedded_graphics::mono_font::ascii::{FONT_6X10, FONT_9X18_BOLD};
use image::{
    RgbImage,
    imageops::{self, FilterType},
};

use super::{BACKGROUND, FAINT, GAP, HEADER, LABEL, Latent, MARGIN, PAPER, Palette};
use crate::canvas::Canvas;

/// Longer side of a frame on the sheet.
const SIDE: u32 = 112;
/// Frames of a strip, at most.
pub const FRAMES: usize = 5;

/// One draw of one clip: what the encoder saw, and what came back, at a few moments.
#[derive(Clone, Debug)]
pub struct Strip {
    /// What is written below.
    pub label: String,
    /// Frames as they were encoded, [`FRAMES`] at most.
    pub frames: Vec<RgbImage>,
    /// The latent frame of each.
    pub latents: Vec<Latent>,
}

/// Draws `rows` (one per clip: its strips in order of epoch) and writes a PNG.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(rows: &[Vec<Strip>], title: [&str; 2], path: &Path) -> anyhow::Result<()> {
    let all = || rows.iter().flatten();
    let frames = all().map(|strip| strip.frames.len()).max().unwrap_or(1) as u32;
    let strips = rows.iter().map(Vec::len).max().unwrap_or(1) as u32;
    let tall = all()
        .flat_map(|strip| &strip.frames)
        .map(|frame| size(frame).1);
    let tall = tall.max().unwrap_or(SIDE);
    let strip_width = frames * (SIDE + GAP) + MARGIN;
    let row_height = 2 * (tall + GAP) + LABEL + MARGIN / 2;
    let width = MARGIN + strips * strip_width;
    let mut canvas = Canvas(RgbImage::from_pixel(
        width,
        HEADER + rows.len() as u32 * row_height + MARGIN / 2,
        BACKGROUND,
    ));
    canvas.text(title[0], (MARGIN, 20), &FONT_9X18_BOLD, PAPER);
    canvas.text(title[1], (MARGIN, 46), &FONT_6X10, FAINT);

    let palette = Palette::fit(rows.iter().flatten().flat_map(|strip| &strip.latents));
    for (row, strips) in (0..).zip(rows) {
        let top = HEADER + row * row_height;
        for (column, strip) in (0..).zip(strips) {
            let left = MARGIN + column * strip_width;
            let mut below = top;
            for (at, (frame, latent)) in (0..).zip(strip.frames.iter().zip(&strip.latents)) {
                let (wide, high) = size(frame);
                let (x, y) = (left + at * (wide + GAP), top + high + GAP);
                let latent = palette.paint(latent);
                let (smooth, sharp) = (FilterType::CatmullRom, FilterType::Nearest);
                let frame = imageops::resize(frame, wide, high, smooth);
                let latent = imageops::resize(&latent, wide, high, sharp);
                imageops::replace(&mut canvas.0, &frame, i64::from(x), i64::from(top));
                imageops::replace(&mut canvas.0, &latent, i64::from(x), i64::from(y));
                below = below.max(y + high);
            }
            canvas.text(&strip.label, (left, below + GAP), &FONT_6X10, FAINT);
        }
    }
    canvas
        .0
        .save(path)
        .with_context(|| format!("writing {}", path.display()))
}

/// Width and height of a frame on the sheet.
fn size(frame: &RgbImage) -> (u32, u32) {
    let (width, height) = frame.dimensions();
    let scale = f64::from(SIDE) / f64::from(width.max(height).max(1));
    let side = |pixels: u32| ((f64::from(pixels) * scale).round() as u32).clamp(1, SIDE);
    (side(width), side(height))
}
