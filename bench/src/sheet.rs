//! The contact sheet: every photo as it was cropped, beside its latent shown as colour.

use std::path::Path;

use anyhow::Context as _;
use embedded_graphics::{
    mono_font::{ascii::FONT_6X10, ascii::FONT_9X18_BOLD},
    pixelcolor::Rgb888,
};
use image::{RgbImage, imageops};

use crate::canvas::Canvas;

mod palette;
pub mod strips;

pub use palette::Palette;

/// A latent on the host, `[channels, height, width]`.
#[derive(Clone, Debug)]
pub struct Latent {
    /// Channels.
    pub channels: usize,
    /// Latent cells.
    pub height: usize,
    /// Latent cells.
    pub width: usize,
    /// The values.
    pub values: Vec<f32>,
}

/// One draw of one photo: what the encoder saw, and what came back.
#[derive(Clone, Debug)]
pub struct Draw {
    /// Name of the photo.
    pub name: String,
    /// The crop.
    pub crop: RgbImage,
    /// Its latent.
    pub latent: Latent,
}

const BOX: u32 = 132;
const GAP: u32 = 4;
const MARGIN: u32 = 24;
const LABEL: u32 = 16;
const HEADER: u32 = 84;
const COLUMNS: u32 = 3;
const BACKGROUND: image::Rgb<u8> = image::Rgb([17, 18, 22]);
const PAPER: Rgb888 = Rgb888::new(232, 232, 236);
const FAINT: Rgb888 = Rgb888::new(140, 142, 152);

/// Draws `rows` (one per photo: its draws in order of epoch) and writes a PNG.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(rows: &[Vec<Draw>], title: [&str; 2], path: &Path) -> anyhow::Result<()> {
    let draws = rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let group = draws * 2 * (BOX + GAP) + MARGIN;
    let lines = (rows.len() as u32).div_ceil(COLUMNS);
    let width = MARGIN + COLUMNS * group;
    let height = HEADER + lines * (BOX + LABEL + GAP * 2) + MARGIN;
    let mut canvas = Canvas(RgbImage::from_pixel(width, height, BACKGROUND));
    canvas.text(title[0], (MARGIN, 20), &FONT_9X18_BOLD, PAPER);
    canvas.text(title[1], (MARGIN, 46), &FONT_6X10, FAINT);

    let palette = Palette::fit(rows.iter().flatten().map(|draw| &draw.latent));
    for (index, row) in rows.iter().enumerate() {
        let left = MARGIN + index as u32 % COLUMNS * group;
        let top = HEADER + index as u32 / COLUMNS * (BOX + LABEL + GAP * 2);
        for (epoch, draw) in row.iter().enumerate() {
            let left = left + epoch as u32 * 2 * (BOX + GAP);
            let right = canvas.picture(&draw.crop, (left, top), imageops::FilterType::CatmullRom);
            let latent = palette.paint(&draw.latent);
            canvas.picture(&latent, (right + GAP, top), imageops::FilterType::Nearest);
            let size = format!("{}x{}", draw.crop.width(), draw.crop.height());
            let label = format!("{} {size} epoch {epoch}", draw.name);
            canvas.text(&label, (left, top + BOX + GAP), &FONT_6X10, FAINT);
        }
    }
    canvas
        .0
        .save(path)
        .with_context(|| format!("writing {}", path.display()))
}

impl Canvas {
    /// Fits a picture into a box, bottom left, without changing its shape. Returns its right edge.
    fn picture(&mut self, picture: &RgbImage, at: (u32, u32), filter: imageops::FilterType) -> u32 {
        let scale = f64::from(BOX) / f64::from(picture.width().max(picture.height()).max(1));
        let side = |pixels: u32| ((f64::from(pixels) * scale).round() as u32).clamp(1, BOX);
        let fitted = imageops::resize(
            picture,
            side(picture.width()),
            side(picture.height()),
            filter,
        );
        let (x, y) = (at.0, at.1 + BOX - fitted.height());
        imageops::replace(&mut self.0, &fitted, i64::from(x), i64::from(y));
        x + fitted.width()
    }
}
