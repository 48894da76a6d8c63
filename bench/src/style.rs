//! Colours and letters of all pictures.

use embedded_graphics::{
    mono_font::{
        MonoFont,
        ascii::{FONT_8X13, FONT_9X15_BOLD},
    },
    pixelcolor::Rgb888,
};

pub(crate) const PAPER: Rgb888 = Rgb888::new(255, 255, 255);
pub(crate) const INK: Rgb888 = Rgb888::new(34, 36, 42);
pub(crate) const FAINT: Rgb888 = Rgb888::new(112, 116, 126);
pub(crate) const GRID: Rgb888 = Rgb888::new(228, 230, 234);

// Told apart by the colour-blind too, and in grey.
pub(crate) const BLUE: Rgb888 = Rgb888::new(0, 114, 178);
pub(crate) const VERMILION: Rgb888 = Rgb888::new(213, 94, 0);
pub(crate) const ORANGE: Rgb888 = Rgb888::new(230, 159, 0);
pub(crate) const GREEN: Rgb888 = Rgb888::new(0, 138, 100);
pub(crate) const PURPLE: Rgb888 = Rgb888::new(148, 52, 132);
pub(crate) const SKY: Rgb888 = Rgb888::new(86, 180, 233);
pub(crate) const BROWN: Rgb888 = Rgb888::new(120, 94, 60);

pub(crate) const SMALL: MonoFont<'static> = FONT_8X13;
pub(crate) const STRONG: MonoFont<'static> = FONT_9X15_BOLD;
