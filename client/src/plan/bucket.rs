//! Aspect-ratio buckets: the few output sizes that a dataset is trained at.
//!
//! For every width that is a multiple of the step there is one bucket: the tallest multiple of the
//! step that keeps the area at or below the target. The same with width and height exchanged, and
//! nothing more elongated than the limit. A sample goes to the bucket whose aspect ratio is nearest
//! by logarithm; among equals to the one with the larger area, then to the narrower.

/// Width and height, in pixels, and frames.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Size {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Of a clip; 1 of an image.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub frames: u32,
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_one(frames: &u32) -> bool {
    *frames == 1
}

impl Size {
    /// An image of `width` by `height` pixels.
    pub const fn new(width: u32, height: u32) -> Self {
        Self::clip(width, height, 1)
    }

    /// A clip of so many frames of `width` by `height` pixels.
    pub const fn clip(width: u32, height: u32, frames: u32) -> Self {
        Self {
            width,
            height,
            frames,
        }
    }

    /// The same with another number of frames.
    #[must_use]
    pub const fn with_frames(self, frames: u32) -> Self {
        Self { frames, ..self }
    }

    /// Width times height: pixels of one frame.
    pub const fn area(self) -> u64 {
        self.width as u64 * self.height as u64
    }

    /// Pixels of all frames: what it costs to encode.
    pub const fn pixels(self) -> u64 {
        self.area() * self.frames as u64
    }
}

/// Without the frames of an image: layouts are kept under a hash of this text.
impl std::fmt::Debug for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Size");
        shown
            .field("width", &self.width)
            .field("height", &self.height);
        if self.frames != 1 {
            shown.field("frames", &self.frames);
        }
        shown.finish()
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)?;
        match self.frames {
            1 => Ok(()),
            frames => write!(f, "x{frames}"),
        }
    }
}

/// All buckets, by width and then height. Never empty if `area >= step * step`.
pub fn buckets(area: u64, step: u32, max_aspect: f64) -> Vec<Size> {
    let mut sizes = Vec::new();
    let mut width = u64::from(step);
    while width * u64::from(step) <= area {
        let height = area / width / u64::from(step) * u64::from(step);
        let (long, short) = (width.max(height), width.min(height));
        // Products of small integers are exact, so every machine draws the same line.
        if long as f64 <= max_aspect * short as f64 {
            let (width, height) = (width as u32, height as u32);
            sizes.extend([Size::new(width, height), Size::new(height, width)]);
        }
        width += u64::from(step);
    }
    if sizes.is_empty() {
        // A limit close to 1 can exclude even the most compact size, as 1.1 does 64x128.
        let side = (area.isqrt() / u64::from(step) * u64::from(step)) as u32;
        sizes.push(Size::new(side, side));
    }
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Index of the bucket for a source of this size. In integers: a logarithm may differ between
/// machines in its last bit, and with it the order.
pub fn nearest(buckets: &[Size], source: Size) -> usize {
    let mut best = 0;
    for at in 1..buckets.len() {
        let (here, there) = (misfit(buckets[at], source), misfit(buckets[best], source));
        let order = (here.0 * there.1).cmp(&(there.0 * here.1));
        let larger = buckets[at].area() > buckets[best].area();
        if order.is_lt() || (order.is_eq() && larger) {
            best = at;
        }
    }
    best
}

/// Which of two sizes is nearer in aspect ratio to a third: `Greater` if `a` is.
pub(super) fn nearness(a: Size, b: Size, to: Size) -> std::cmp::Ordering {
    let (a, b) = (misfit(a, to), misfit(b, to));
    (b.0 * a.1).cmp(&(a.0 * b.1))
}

/// By what factor the aspect ratios differ, at least 1, as a fraction of 64-bit products.
fn misfit(bucket: Size, source: Size) -> (u128, u128) {
    let a = u128::from(bucket.width) * u128::from(source.height);
    let b = u128::from(bucket.height) * u128::from(source.width);
    (a.max(b), a.min(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_list() {
        let sizes = buckets(512 * 512, 64, 2.0);
        let text: Vec<String> = sizes.iter().map(Size::to_string).collect();
        assert_eq!(text.join(" "), "384x640 448x576 512x512 576x448 640x384");
    }

    #[test]
    fn nearest_by_aspect() {
        let sizes = buckets(512 * 512, 64, 2.0);
        let pick = |w, h| sizes[nearest(&sizes, Size::new(w, h))].to_string();
        assert_eq!(pick(4000, 4000), "512x512");
        assert_eq!(pick(4000, 3000), "576x448");
        assert_eq!(pick(3000, 4000), "448x576");
        assert_eq!(pick(30_000, 10), "640x384");
        assert_eq!(pick(1, 32_768), "384x640");
    }

    proptest! {
        #[test]
        fn every_bucket_keeps_the_rule(side in 64_u64..2048, step in 0_usize..4, aspect in 1.0..8.0) {
            let step = [8, 16, 32, 64][step];
            for size in buckets(side * side, step, aspect) {
                prop_assert!(size.area() <= side * side);
                prop_assert!(size.width % step == 0 && size.height % step == 0);
                prop_assert!(size.width > 0 && size.height > 0);
                let (long, short) = (size.width.max(size.height), size.width.min(size.height));
                prop_assert!(f64::from(long) <= aspect * f64::from(short));
            }
        }

        #[test]
        fn nearest_agrees_with_logarithms(w in 1_u32..20_000, h in 1_u32..20_000) {
            let sizes = buckets(1024 * 1024, 64, 4.0);
            let log = |size: Size| (f64::from(size.width) / f64::from(size.height)).ln();
            let source = Size::new(w, h);
            let off = |size: &Size| (log(*size) - log(source)).abs();
            let least = sizes.iter().map(off).fold(f64::INFINITY, f64::min);
            prop_assert!(off(&sizes[nearest(&sizes, source)]) <= least + 1e-12);
        }
    }
}
