//! Filling a rectangle with a picture.

use super::{Filter, Transform};

/// Resizes `source` (width, height) to cover `size` (width, height) and crops the centre; no flip.
///
/// The rule, in integers, so that another implementation can agree exactly: with source `w`x`h` and
/// size `W`x`H`, if `W*h >= H*w` the resized width is `W` and the height is `h*W/w` rounded to the
/// nearest integer, halves up: `(2*h*W + w) / (2*w)`. Otherwise the height is `H` and the width
/// `(2*w*H + h) / (2*h)`. Neither side is ever below `size`. The crop starts at half of what is left
/// over, rounded down.
///
/// Extreme aspect ratios can ask for sides beyond any limit; [`apply`](super::apply) refuses those.
pub fn cover(source: [u32; 2], size: [u32; 2], filter: Filter) -> Transform {
    let [w, h] = source.map(|side| u64::from(side.max(1)));
    let [width, height] = size.map(u64::from);
    let resize = if width * h >= height * w {
        [size[0], nearest(h, width, w)]
    } else {
        [nearest(w, height, h), size[1]]
    };
    let crop = [(resize[0] - size[0]) / 2, (resize[1] - size[1]) / 2];
    Transform {
        resize,
        crop,
        size,
        filter,
        flip: false,
    }
}

/// `a * b / c`, rounded to the nearest integer, halves up.
fn nearest(a: u64, b: u64, c: u64) -> u32 {
    let (a, b, c) = (u128::from(a), u128::from(b), u128::from(c));
    u32::try_from((2 * a * b + c) / (2 * c)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resized(source: [u32; 2], size: [u32; 2]) -> ([u32; 2], [u32; 2]) {
        let transform = cover(source, size, Filter::Bicubic);
        (transform.resize, transform.crop)
    }

    #[test]
    fn centres() {
        assert_eq!(resized([451, 300], [256, 256]), ([385, 256], [64, 0]));
        assert_eq!(resized([300, 451], [256, 256]), ([256, 385], [0, 64]));
        assert_eq!(resized([512, 512], [512, 512]), ([512, 512], [0, 0]));
        assert_eq!(resized([7, 5], [64, 32]), ([64, 46], [0, 7]));
    }

    #[test]
    fn halves_round_up() {
        // 3 * 5 / 2 = 7.5
        assert_eq!(resized([2, 3], [5, 5]), ([5, 8], [0, 1]));
    }

    #[test]
    fn never_smaller_and_in_bounds() {
        for w in 1..40 {
            for h in 1..40 {
                for size in [[1, 1], [8, 8], [16, 24], [33, 7]] {
                    let ([rw, rh], [x, y]) = resized([w, h], size);
                    assert!(rw >= size[0] && rh >= size[1]);
                    assert!(x + size[0] <= rw && y + size[1] <= rh);
                }
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let (resize, _) = resized([1, u32::MAX], [u32::MAX, 1]);
        assert_eq!(resize, [u32::MAX, u32::MAX]);
        resized([0, 0], [0, 0]);
    }
}
