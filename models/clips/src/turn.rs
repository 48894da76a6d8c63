//! The eight ways in which a frame can lie in a file.

/// How a stored frame is turned so that it is shown upright: a flip left to right first, then
/// quarter turns clockwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) flip: bool,
    /// Quarters of a circle, clockwise, 0 to 3.
    pub(crate) quarters: u8,
}

impl Turn {
    /// From a display matrix `[a b u; c d v; x y w]` (ISO 14496-12), of which the first two columns
    /// and rows matter: `x' = a x + c y`, `y' = b x + d y`. Angles between the quarters go to the
    /// nearest one.
    pub(crate) fn from_matrix([a, b, c, d]: [i64; 4]) -> Self {
        let flip = a * d - b * c < 0;
        // Where the flipped frame's left-to-right axis points after all; y points down.
        let (x, y) = if flip { (-a, -b) } else { (a, b) };
        let quarters = if x.abs() >= y.abs() {
            if x >= 0 { 0 } else { 2 }
        } else if y >= 0 {
            1
        } else {
            3
        };
        Self { flip, quarters }
    }

    /// Degrees clockwise.
    pub(crate) fn degrees(self) -> u16 {
        u16::from(self.quarters) * 90
    }

    /// A width and height after the turn.
    pub(crate) const fn size(self, [width, height]: [u32; 2]) -> [u32; 2] {
        if self.quarters % 2 == 1 {
            [height, width]
        } else {
            [width, height]
        }
    }

    /// The same as FFmpeg filters.
    pub(crate) const fn filters(self) -> &'static [&'static str] {
        match (self.flip, self.quarters) {
            (false, 0) => &[],
            (false, 1) => &["transpose=clock"],
            (false, 2) => &["hflip", "vflip"],
            (false, _) => &["transpose=cclock"],
            (true, 0) => &["hflip"],
            (true, 1) => &["hflip", "transpose=clock"],
            (true, 2) => &["vflip"],
            (true, _) => &["hflip", "transpose=cclock"],
        }
    }
}
