//! Lines without steps: drawn large, made small, and written on last, so that letters stay sharp.

use embedded_graphics::{
    Drawable as _,
    mono_font::MonoFont,
    pixelcolor::Rgb888,
    prelude::{Point, Primitive as _, RgbColor as _},
    primitives::{Circle, Line, PrimitiveStyle, PrimitiveStyleBuilder},
};
use image::{Rgb, RgbImage, imageops};

use crate::canvas::Canvas;

/// How much larger lines are drawn.
const LARGER: u32 = 4;
/// Thick lines are drawn in pieces of at most so many pixels: embedded-graphics multiplies the squares
/// of length and width in 32 bits.
const PIECE: f64 = 200.0;
/// A dash and the gap behind it, in pixels.
const DASH: [f64; 2] = [7.0, 5.0];

/// A picture in the making.
pub(crate) struct Ink {
    canvas: Canvas,
    size: (u32, u32),
    texts: Vec<(String, (u32, u32), MonoFont<'static>, Rgb888)>,
}

impl Ink {
    /// An empty one.
    pub(crate) fn new(width: u32, height: u32, paper: Rgb888) -> Self {
        let paper = Rgb([paper.r(), paper.g(), paper.b()]);
        Self {
            canvas: Canvas(RgbImage::from_pixel(LARGER * width, LARGER * height, paper)),
            size: (width, height),
            texts: Vec::new(),
        }
    }

    /// A straight line; all lengths are pixels of the finished picture.
    pub(crate) fn line(&mut self, from: [f64; 2], to: [f64; 2], width: f64, colour: Rgb888) {
        let style = PrimitiveStyle::with_stroke(colour, large(width) as u32);
        let pieces = (length(from, to) / PIECE).ceil().max(1.0);
        for piece in 0..pieces as u32 {
            let [start, end] = [0.0, 1.0].map(|more| (f64::from(piece) + more) / pieces);
            let [start, end] = [start, end].map(|share| point(between(from, to, share)));
            let Ok(()) = Line::new(start, end)
                .into_styled(style)
                .draw(&mut self.canvas);
        }
    }

    /// A dashed one.
    pub(crate) fn dashed(&mut self, from: [f64; 2], to: [f64; 2], width: f64, colour: Rgb888) {
        let length = length(from, to);
        let at = |along: f64| between(from, to, (along / length).min(1.0));
        let mut along = 0.0;
        while along < length {
            self.line(at(along), at(along + DASH[0]), width, colour);
            along += DASH[0] + DASH[1];
        }
    }

    /// A disc, or a ring where `filling` is another colour.
    pub(crate) fn dot(&mut self, at: [f64; 2], radius: f64, colour: Rgb888, filling: Rgb888) {
        let style = PrimitiveStyleBuilder::new()
            .stroke_color(colour)
            .stroke_width(large(2.0) as u32)
            .fill_color(filling)
            .build();
        let dot = Circle::with_center(point(at), large(2.0 * radius) as u32).into_styled(style);
        let Ok(()) = dot.draw(&mut self.canvas);
    }

    /// A line of text, by its upper left corner.
    pub(crate) fn text(
        &mut self,
        text: &str,
        [x, y]: [f64; 2],
        font: MonoFont<'static>,
        colour: Rgb888,
    ) {
        let at = (x.max(0.0).round() as u32, y.max(0.0).round() as u32);
        self.texts.push((text.to_owned(), at, font, colour));
    }

    /// The finished picture.
    pub(crate) fn dry(self) -> RgbImage {
        let (width, height) = self.size;
        let mut small = Canvas(imageops::thumbnail(&self.canvas.0, width, height));
        for (text, at, font, colour) in &self.texts {
            small.text(text, *at, font, *colour);
        }
        small.0
    }
}

fn length(from: [f64; 2], to: [f64; 2]) -> f64 {
    (to[0] - from[0]).hypot(to[1] - from[1])
}

fn between(from: [f64; 2], to: [f64; 2], share: f64) -> [f64; 2] {
    [0, 1].map(|axis| from[axis] + share * (to[axis] - from[axis]))
}

fn large(length: f64) -> i32 {
    (length * f64::from(LARGER)).round() as i32
}

fn point([x, y]: [f64; 2]) -> Point {
    Point::new(large(x), large(y))
}
