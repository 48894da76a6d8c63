//! EXIF orientation: which way is up.

use ::image::metadata::Orientation as Exif;

use super::Rgb;

/// How stored pixels become upright. The numbers are those of EXIF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Orientation {
    /// As stored.
    #[default]
    Upright = 1,
    /// Mirror left to right.
    Mirror = 2,
    /// Half a turn.
    Turn180 = 3,
    /// Mirror top to bottom.
    Flip = 4,
    /// Swap rows and columns.
    Transpose = 5,
    /// A quarter turn clockwise.
    Turn90 = 6,
    /// Swap rows and columns about the other diagonal.
    Transverse = 7,
    /// A quarter turn counter-clockwise.
    Turn270 = 8,
}

impl Orientation {
    /// From an EXIF block, with or without its `Exif\0\0` prefix. A damaged or absent entry means
    /// upright, as for every viewer.
    pub(super) fn from_exif(block: &[u8]) -> Self {
        let tiff = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
        match Exif::from_exif_chunk(tiff) {
            None | Some(Exif::NoTransforms) => Self::Upright,
            Some(Exif::FlipHorizontal) => Self::Mirror,
            Some(Exif::Rotate180) => Self::Turn180,
            Some(Exif::FlipVertical) => Self::Flip,
            Some(Exif::Rotate90FlipH) => Self::Transpose,
            Some(Exif::Rotate90) => Self::Turn90,
            Some(Exif::Rotate270FlipH) => Self::Transverse,
            Some(Exif::Rotate270) => Self::Turn270,
        }
    }

    /// Whether width and height change places.
    pub const fn swaps(self) -> bool {
        self as u8 >= Self::Transpose as u8
    }

    /// From the stored size to the upright one, or back.
    pub(super) const fn size(self, width: u32, height: u32) -> (u32, u32) {
        if self.swaps() {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// Makes it upright.
    pub(super) fn turn(self, rgb: Rgb) -> Rgb {
        if self == Self::Upright || rgb.data.is_empty() {
            return rgb;
        }
        let (width, height) = self.size(rgb.width, rgb.height);
        let mut data = vec![0; rgb.data.len()];
        let source = Pixels {
            rgb: &rgb,
            orientation: self,
        };
        // In squares, because one of the two sides is walked across its rows.
        for top in (0..height as usize).step_by(TILE) {
            for left in (0..width as usize).step_by(TILE) {
                for y in top..(top + TILE).min(height as usize) {
                    let columns = left..(left + TILE).min(width as usize);
                    let row = y * width as usize;
                    let target = &mut data[(row + columns.start) * 3..(row + columns.end) * 3];
                    source.copy_row(columns.start, y, target);
                }
            }
        }
        Rgb {
            width,
            height,
            data,
        }
    }
}

/// Side of a square of pixels of which two fit the first-level cache.
const TILE: usize = 32;

struct Pixels<'a> {
    rgb: &'a Rgb,
    orientation: Orientation,
}

impl Pixels<'_> {
    /// Fills part of an upright row, from column `x` on.
    fn copy_row(&self, x: usize, y: usize, target: &mut [u8]) {
        let (right, bottom) = (self.rgb.width as usize - 1, self.rgb.height as usize - 1);
        let stride = self.rgb.width as isize;
        // Where the pixel (x, y) is stored, and how far away is the one to its right.
        let ((column, row), step) = match self.orientation {
            Orientation::Upright => ((x, y), 1),
            Orientation::Mirror => ((right - x, y), -1),
            Orientation::Turn180 => ((right - x, bottom - y), -1),
            Orientation::Flip => ((x, bottom - y), 1),
            Orientation::Transpose => ((y, x), stride),
            Orientation::Turn90 => ((y, bottom - x), -stride),
            Orientation::Transverse => ((right - y, bottom - x), -stride),
            Orientation::Turn270 => ((right - y, x), stride),
        };
        let (pixels, _) = self.rgb.data.as_chunks::<3>();
        let mut at = row * self.rgb.width as usize + column;
        for pixel in target.as_chunks_mut().0 {
            *pixel = pixels[at];
            at = at.wrapping_add_signed(step);
        }
    }
}
