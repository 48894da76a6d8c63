//! Cut and flipped bytes: an answer, never a panic, and soon.

use preheat_models::image::{Filter, apply, cover, decode, probe};

use super::{MAX_PIXELS, read};

/// Small ones, so that many fit in a second.
const PICTURES: [&str; 14] = [
    "tiny-7x5.jpg",
    "420.jpg",
    "422.jpg",
    "420-progressive-restarts.jpg",
    "cmyk-progressive.jpg",
    "ycck.jpg",
    "orientation-7.jpg",
    "palette-4bit.png",
    "rgba16.png",
    "orientation-6.png",
    "lossless-alpha.webp",
    "lossy-alpha.webp",
    "animated.webp",
    "orientation-8.webp",
];

/// Repeatable numbers below a bound.
pub(super) fn numbers(seed: u64) -> impl FnMut(u32) -> u32 {
    let mut state = seed;
    move |bound| {
        // SplitMix64, which needs no warming up.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ z >> 31) * u128::from(bound)) >> 64) as u32
    }
}

#[test]
fn damage_is_answered() {
    let mut below = numbers(7);
    let (mut good, mut refused) = (0, 0);
    for name in PICTURES {
        let bytes = read(name);
        let length = bytes.len() as u32;
        for round in 0..150 {
            let mut bytes = bytes.clone();
            // Headers are short and do the harm, so that half of the flips go there.
            let reach = if round % 2 == 0 {
                length
            } else {
                length.min(200)
            };
            for _ in 0..below(4) {
                bytes[below(reach) as usize] ^= 1 << below(8);
            }
            if below(3) == 0 {
                bytes.truncate(below(length) as usize);
            }
            let header = probe(&bytes, MAX_PIXELS);
            match decode(&bytes, MAX_PIXELS) {
                Ok(rgb) => {
                    let header = header.expect("what decodes has a header");
                    assert_eq!((rgb.width, rgb.height), (header.width, header.height));
                    assert_eq!(rgb.data.len() as u32, rgb.width * rgb.height * 3);
                    let covering = cover([rgb.width, rgb.height], [16, 16], Filter::Bicubic);
                    // Refused where one side is extreme.
                    let _ = apply(rgb, &covering);
                    good += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    println!("{good} decoded, {refused} refused");
    assert!(
        good > 100 && refused > 100,
        "{good} decoded and {refused} refused prove little"
    );
}
