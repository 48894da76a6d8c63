//! From a source image to its bucket: resize until it covers, cut, mirror.

use super::{
    bucket::Size,
    seeds::{Purpose, below, between, draw},
};
use preheat_proto::limits;

/// Where to cut after the resize, and how much of the image to show. Proportions are always kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crop {
    /// As much as fits the output; the same margin on both sides, the odd pixel right or below.
    Center,
    /// As much as fits the output; anywhere, uniformly, by the sample's seed.
    Random,
    /// A part of that, anywhere, by the sample's seed: between `least` and `most` of its area,
    /// uniformly. It is torchvision's `RandomResizedCrop` with the one aspect ratio of the output.
    /// The image is resized until the part fills the output, and is so shown whole where that
    /// would take more pixels than the wire allows.
    RandomResized {
        /// Share of the area, above 0.
        least: f32,
        /// Share of the area, at most 1.
        most: f32,
    },
}

/// What is drawn for a sample in an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransformSpec {
    /// Where to cut.
    pub crop: Crop,
    /// Probability of mirroring.
    pub flip: f32,
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

/// What SDXL is told of a sample's geometry, as diffusers' `train_text_to_image_sdxl.py` computes
/// it. All are (height, width) or (top, left), in pixels; in this order they are `add_time_ids`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MicroConditioning {
    /// Of the image before the resize, EXIF orientation applied.
    pub original_size: [u32; 2],
    /// Corner of the output in the resized image. There images are mirrored before they are cut, so
    /// for a mirrored sample this is the corner in the mirrored image.
    pub crop_top_left: [u32; 2],
    /// Of the output.
    pub target_size: [u32; 2],
}

impl Transform {
    /// The values for SDXL, where `target` is the output's size.
    pub fn micro_conditioning(&self, target: Size) -> MicroConditioning {
        let left = if self.flip {
            self.resize.width - target.width - self.crop_x
        } else {
            self.crop_x
        };
        MicroConditioning {
            original_size: [self.source.height, self.source.width],
            crop_top_left: [self.crop_y, left],
            target_size: [target.height, target.width],
        }
    }
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
    let draw = |purpose| draw(seed, epoch, sample, purpose);
    let whole = cover(source, target)?;
    let resize = match spec.crop {
        Crop::Center | Crop::Random => whole,
        Crop::RandomResized { least, most } => {
            let larger = magnified(target, (least, most), draw(Purpose::Scale));
            larger
                .and_then(|larger| cover(source, larger))
                .unwrap_or(whole)
        }
    };
    let slack_x = resize.width - target.width;
    let slack_y = resize.height - target.height;
    let at = |slack: u32, purpose| match spec.crop {
        Crop::Center => slack / 2,
        Crop::Random | Crop::RandomResized { .. } => below(draw(purpose), slack + 1),
    };
    // The upper end of the bits: at one half these are the draws of the first release.
    let flip = between(draw(Purpose::Flip), 1.0 - f64::from(spec.flip), 1.0);
    Some(Transform {
        source,
        resize,
        crop_x: at(slack_x, Purpose::CropX),
        crop_y: at(slack_y, Purpose::CropY),
        flip,
    })
}

/// The size of which `target` is a share drawn between two of them, in area.
fn magnified(target: Size, (least, most): (f32, f32), bits: u64) -> Option<Size> {
    /// Shares are counted in these: integers, so that every machine agrees.
    const WHOLE: f32 = (1 << 20) as f32;
    let [least, most] = [least, most].map(|share| (share * WHOLE).max(1.0) as u32);
    let share = u64::from(least + below(bits, most.saturating_sub(least) + 1));
    let side = |side: u32| {
        let square = u64::from(side).pow(2) * WHOLE as u64;
        u32::try_from((square / share).isqrt()).ok()
    };
    let (width, height) = (side(target.width)?, side(target.height)?);
    Some(Size::new(
        width.max(target.width),
        height.max(target.height),
    ))
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
        fn the_crop_is_inside(w in 1_u32..5000, h in 1_u32..5000, seed: u64, kind in 0..3) {
            let zoom = Crop::RandomResized { least: 0.1, most: 0.9 };
            let crop = [Crop::Center, Crop::Random, zoom][kind as usize];
            let spec = TransformSpec { crop, flip: 0.5 };
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
            flip: 0.5,
        };
        let drawn: Vec<_> = (0..1000)
            .filter_map(|id| transform(spec, (0, 0, id), Size::new(640, 480), Size::new(256, 256)))
            .collect();
        let flips = drawn.iter().filter(|one| one.flip).count();
        assert!((400..600).contains(&flips), "{flips}");
        assert_eq!(drawn.iter().map(|one| one.crop_x).min(), Some(0));
        assert_eq!(drawn.iter().map(|one| one.crop_x).max(), Some(85));
    }

    #[test]
    fn resized_crops_show_the_share_that_was_asked_for() {
        let crop = Crop::RandomResized {
            least: 0.25,
            most: 0.5,
        };
        let spec = TransformSpec { crop, flip: 0.0 };
        let (source, target) = (Size::new(640, 480), Size::new(256, 256));
        let whole = cover(source, target).unwrap().area() as f64;
        let shares: Vec<_> = (0..1000)
            .filter_map(|id| transform(spec, (0, 0, id), source, target))
            .map(|drawn| whole / drawn.resize.area() as f64)
            .collect();
        let [least, most] = [f64::min, f64::max].map(|pick| shares.iter().copied().reduce(pick));
        let mean = shares.iter().sum::<f64>() / 1000.0;
        // Sides are whole pixels, so the share is off by up to a hundredth.
        assert!((0.24..0.26).contains(&least.unwrap()), "{least:?}");
        assert!((0.49..0.51).contains(&most.unwrap()), "{most:?}");
        assert!((0.36..0.39).contains(&mean), "{mean}");
        // 29127 pixels wide as it is, and over the limit if any larger.
        let needle = transform(spec, (0, 0, 0), Size::new(29_127, 256), target).unwrap();
        assert_eq!(needle.resize, Size::new(29_127, 256));
    }

    /// As `train_text_to_image_sdxl.py` would have it: mirrored before it is cut.
    #[test]
    fn micro_conditioning_is_that_of_diffusers() {
        let drawn = Transform {
            source: Size::new(800, 600),
            resize: Size::new(341, 256),
            crop_x: 20,
            crop_y: 0,
            flip: false,
        };
        let target = Size::new(256, 256);
        let told = drawn.micro_conditioning(target);
        assert_eq!(told.original_size, [600, 800]);
        assert_eq!(told.crop_top_left, [0, 20]);
        assert_eq!(told.target_size, [256, 256]);
        let mirrored = Transform {
            flip: true,
            ..drawn
        };
        // What was 20 from the left, and so 65 from the right, is 65 from the left.
        let told = mirrored.micro_conditioning(target);
        assert_eq!(told.crop_top_left, [0, 65]);
    }

    #[test]
    fn flips_follow_their_probability() {
        let flips = |flip| {
            let spec = TransformSpec {
                crop: Crop::Center,
                flip,
            };
            let size = Size::new(64, 64);
            let drawn = |id| transform(spec, (5, 1, id), size, size);
            (0..10_000).filter_map(drawn).filter(|one| one.flip).count()
        };
        assert_eq!(flips(0.0), 0);
        assert_eq!(flips(1.0), 10_000);
        // Four standard deviations.
        assert!((828..1172).contains(&(flips(0.1))), "{}", flips(0.1));
    }
}
