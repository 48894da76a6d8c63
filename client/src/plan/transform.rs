//! From a source image to its bucket: resize until it covers, cut, mirror.

use super::{
    bucket::Size,
    seeds::{Purpose, below, draw},
};
use preheat_proto::limits;

/// Where to cut what sticks out after the resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crop {
    /// The same margin on both sides; the odd pixel goes right or below.
    Center,
    /// Anywhere, uniformly, by the sample's seed.
    Random,
}

/// What is drawn for a sample in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransformSpec {
    /// Where to cut.
    pub crop: Crop,
    /// Whether to mirror every other sample.
    pub flip: bool,
}

/// The whole geometry of one sample, in the order in which it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transform {
    /// Size of the image, EXIF orientation applied.
    pub source: Size,
    /// Size to resize to.
    pub resize: Size,
    /// Left edge of the output in the resized image, in pixels.
    pub crop_x: u32,
    /// Top edge, likewise.
    pub crop_y: u32,
    /// Whether to mirror left to right, last.
    pub flip: bool,
}

/// The smallest size with the source's proportions that covers `target`: with
/// `scale = max(W / w, H / h)`, each side is `max(target, round_half_up(side * scale))`.
/// In integers, so that every machine agrees.
pub fn cover(source: Size, target: Size) -> Option<Size> {
    let [w, h] = [source.width, source.height].map(u64::from);
    let [tw, th] = [target.width, target.height].map(u64::from);
    let (width, height) = if tw * h >= th * w {
        (tw, th.max(round_div(h * tw, w)))
    } else {
        (tw.max(round_div(w * th, h)), th)
    };
    let fits = width.max(height) <= u64::from(limits::MAX_SIDE)
        && width * height <= limits::MAX_SOURCE_PIXELS;
    fits.then(|| Size::new(width as u32, height as u32))
}

/// The transform of `sample` in `epoch`; `None` where covering the target would take more pixels
/// than the wire allows.
pub fn transform(
    spec: TransformSpec,
    (seed, epoch, sample): (u64, u64, u64),
    source: Size,
    target: Size,
) -> Option<Transform> {
    let resize = cover(source, target)?;
    let slack_x = resize.width - target.width;
    let slack_y = resize.height - target.height;
    let at = |slack: u32, purpose| match spec.crop {
        Crop::Center => slack / 2,
        Crop::Random => below(draw(seed, epoch, sample, purpose), slack + 1),
    };
    Some(Transform {
        source,
        resize,
        crop_x: at(slack_x, Purpose::CropX),
        crop_y: at(slack_y, Purpose::CropY),
        flip: spec.flip && below(draw(seed, epoch, sample, Purpose::Flip), 2) == 1,
    })
}

fn round_div(numerator: u64, denominator: u64) -> u64 {
    (2 * numerator + denominator) / (2 * denominator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn covers_with_half_up_rounding() {
        let covered = |w, h, tw, th| {
            cover(Size::new(w, h), Size::new(tw, th))
                .unwrap()
                .to_string()
        };
        assert_eq!(covered(640, 480, 256, 256), "341x256");
        assert_eq!(covered(480, 640, 256, 256), "256x341");
        assert_eq!(covered(512, 512, 512, 512), "512x512");
        assert_eq!(covered(2, 5, 1, 1), "1x3");
        assert_eq!(covered(7, 5, 64, 64), "90x64");
        assert_eq!(cover(Size::new(30_000, 10), Size::new(256, 256)), None);
    }

    proptest! {
        #[test]
        fn the_crop_is_inside(w in 1_u32..5000, h in 1_u32..5000, seed: u64, random: bool) {
            let crop = if random { Crop::Random } else { Crop::Center };
            let spec = TransformSpec { crop, flip: true };
            let target = Size::new(512, 384);
            if let Some(drawn) = transform(spec, (seed, 1, 2), Size::new(w, h), target) {
                prop_assert!(drawn.crop_x + target.width <= drawn.resize.width);
                prop_assert!(drawn.crop_y + target.height <= drawn.resize.height);
            }
        }

        #[test]
        fn cover_follows_the_rule(w in 1_u32..5000, h in 1_u32..5000) {
            let target = Size::new(512, 384);
            let scale = (512.0 / f64::from(w)).max(384.0 / f64::from(h));
            if let Some(size) = cover(Size::new(w, h), target) {
                prop_assert!((f64::from(size.width) - f64::from(w) * scale).abs() <= 0.5 + 1e-9);
                prop_assert!((f64::from(size.height) - f64::from(h) * scale).abs() <= 0.5 + 1e-9);
            }
        }
    }

    #[test]
    fn random_crops_and_flips_are_spread() {
        let spec = TransformSpec {
            crop: Crop::Random,
            flip: true,
        };
        let drawn: Vec<_> = (0..1000)
            .filter_map(|id| transform(spec, (0, 0, id), Size::new(640, 480), Size::new(256, 256)))
            .collect();
        let flips = drawn.iter().filter(|one| one.flip).count();
        assert!((400..600).contains(&flips), "{flips}");
        assert_eq!(drawn.iter().map(|one| one.crop_x).min(), Some(0));
        assert_eq!(drawn.iter().map(|one| one.crop_x).max(), Some(85));
    }
}
