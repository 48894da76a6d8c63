//! Resizing, against PIL and against itself.

use preheat_models::image::{
    Filter, ImageError, MAX_RESIZED_PIXELS, MAX_SIDE, Rgb, Transform, apply, cover,
};

use super::{difference, golden};

const FILTERS: [(&str, Filter); 3] = [
    ("bilinear", Filter::Bilinear),
    ("bicubic", Filter::Bicubic),
    ("lanczos", Filter::Lanczos),
];

fn whole(resize: [u32; 2], filter: Filter) -> Transform {
    Transform {
        resize,
        crop: [0, 0],
        size: resize,
        filter,
        flip: false,
    }
}

#[test]
fn as_in_pil() {
    let photo = [[64, 43], [100, 20]];
    let small = [[20, 31], [97, 13], [150, 97], [71, 90], [160, 47]];
    for (stem, sizes) in [("progressive-444", &photo[..]), ("444", &small[..])] {
        let source = golden(&format!("{stem}.jpg"));
        for &[width, height] in sizes {
            for (name, filter) in FILTERS {
                let expected = golden(&format!("resize-{stem}-{width}x{height}-{name}"));
                let resized = apply(source.clone(), &whole([width, height], filter)).unwrap();
                let (max, mean) = difference(&resized, &expected);
                println!("{stem} to {width}x{height} {name}: max {max}, mean {mean:.5}");
                assert!(
                    max <= 1,
                    "{stem} to {width}x{height} {name}: {max} away from PIL"
                );
                assert!(
                    mean <= 0.007,
                    "{stem} to {width}x{height} {name}: {mean} in the mean"
                );
            }
        }
    }
}

/// The plain way to crop and flip.
fn cut(rgb: &Rgb, transform: &Transform) -> Rgb {
    let Transform {
        crop: [left, top],
        size: [width, height],
        flip,
        ..
    } = *transform;
    let mut data = Vec::new();
    for y in top..top + height {
        for x in 0..width {
            let x = left + if flip { width - 1 - x } else { x };
            let at = (y * rgb.width + x) as usize * 3;
            data.extend_from_slice(&rgb.data[at..at + 3]);
        }
    }
    Rgb {
        width,
        height,
        data,
    }
}

#[test]
fn leaving_out_what_the_crop_cannot_see_changes_nothing() {
    let source = golden("444.jpg");
    let mut below = super::mutate::numbers(1);
    for _ in 0..600 {
        let resize = [1 + below(150), 1 + below(150)];
        let size = resize.map(|side| 1 + below(side));
        let crop = [
            below(resize[0] - size[0] + 1),
            below(resize[1] - size[1] + 1),
        ];
        let (filter, flip) = (FILTERS[below(3) as usize].1, below(2) == 1);
        let transform = Transform {
            resize,
            crop,
            size,
            filter,
            flip,
        };
        let expected = cut(
            &apply(source.clone(), &whole(resize, filter)).unwrap(),
            &transform,
        );
        assert_eq!(
            apply(source.clone(), &transform).unwrap(),
            expected,
            "{transform:?}"
        );
    }
}

#[test]
fn one_side_or_none() {
    let source = golden("444.jpg");
    for resize in [[71, 47], [71, 20], [20, 47]] {
        let [width, height] = resize;
        for (crop, size) in [([0, 0], resize), ([3, 5], [width - 7, height - 9])] {
            let transform = Transform {
                crop,
                size,
                ..whole(resize, Filter::Lanczos)
            };
            let all = apply(source.clone(), &whole(resize, Filter::Lanczos)).unwrap();
            assert_eq!(
                apply(source.clone(), &transform).unwrap(),
                cut(&all, &transform)
            );
        }
    }
    assert_eq!(
        apply(source.clone(), &whole([71, 47], Filter::Lanczos)).unwrap(),
        source
    );
}

#[test]
fn covers_any_shape() {
    for source in [[1, 1], [1, 300], [300, 1], [71, 47], [2, 3]] {
        let [width, height] = source;
        let data = vec![77; (width * height * 3) as usize];
        let rgb = Rgb {
            width,
            height,
            data,
        };
        for size in [[1, 1], [16, 24], [64, 8]] {
            let covered = apply(rgb.clone(), &cover(source, size, Filter::Lanczos)).unwrap();
            assert_eq!([covered.width, covered.height], size);
            assert!(
                covered.data.iter().all(|&value| value == 77),
                "{source:?} to {size:?}"
            );
        }
    }
}

#[test]
fn impossible_transforms_are_refused() {
    let source = golden("444.jpg");
    let good = whole([30, 20], Filter::Bilinear);
    let refused = |transform: Transform, part: &str| {
        let error = apply(source.clone(), &transform).unwrap_err();
        assert!(matches!(error, ImageError::Bad(_)));
        assert!(error.to_string().contains(part), "{error}");
    };
    refused(
        Transform {
            crop: [1, 0],
            ..good
        },
        "a crop of [30, 20] at [1, 0]",
    );
    refused(
        Transform {
            crop: [0, 21],
            ..good
        },
        "a crop",
    );
    refused(
        Transform {
            crop: [u32::MAX, 0],
            ..good
        },
        "a crop",
    );
    refused(
        Transform {
            size: [0, 20],
            ..good
        },
        "a resize through 0x20",
    );
    refused(
        Transform {
            resize: [30, 0],
            ..good
        },
        "a resize through 30x0",
    );
    refused(
        Transform {
            resize: [MAX_SIDE + 1, 20],
            ..good
        },
        "a resize through 65536x20",
    );
    refused(
        whole([MAX_SIDE, MAX_SIDE], Filter::Lanczos),
        &MAX_RESIZED_PIXELS.to_string(),
    );
    let cut = Rgb {
        data: vec![0; 5],
        ..source.clone()
    };
    let error = apply(cut, &good).unwrap_err().to_string();
    assert_eq!(error, "5 bytes of pixels for 71x47");
}
