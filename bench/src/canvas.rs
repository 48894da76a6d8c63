//! A picture that can be written and drawn on.

use embedded_graphics::{
    Drawable as _,
    mono_font::{MonoFont, MonoTextStyle},
    pixelcolor::Rgb888,
    prelude::{DrawTarget, OriginDimensions, Pixel, Point, RgbColor, Size},
    text::{Baseline, Text},
};
use image::RgbImage;

/// A picture that can be written and drawn on. What lies outside is left out.
pub(crate) struct Canvas(pub(crate) RgbImage);

impl Canvas {
    /// A line of text, by its upper left corner.
    pub(crate) fn text(
        &mut self,
        text: &str,
        (x, y): (u32, u32),
        font: &MonoFont<'_>,
        colour: Rgb888,
    ) {
        let style = MonoTextStyle::new(font, colour);
        let at = Point::new(x as i32, y as i32);
        let Ok(_) = Text::with_baseline(text, at, style, Baseline::Top).draw(self);
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = Pixel<Rgb888>>,
    {
        for Pixel(at, colour) in pixels {
            let place = u32::try_from(at.x).ok().zip(u32::try_from(at.y).ok());
            if let Some(pixel) = place.and_then(|(x, y)| self.0.get_pixel_mut_checked(x, y)) {
                *pixel = image::Rgb([colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}
