//! What frames become: JPEG, PNG, raw, the source's own JPEGs; and how they are scaled.

use std::io::Cursor;

use fast_image_resize as fir;
use image::ImageReader;
use preheat_clips::{
    Cut, Encoding, Filter, Input, Video,
    fixtures::{Codec, Numbered, read_blocks},
};

use crate::with::{With, all_of};

fn decoded(file: &[u8]) -> (Vec<u8>, [u32; 2]) {
    if file.starts_with(&[0xff, 0xd8]) {
        let mut decoder = zune_jpeg::JpegDecoder::new(Cursor::new(file));
        let rgb = decoder.decode().unwrap();
        let (width, height) = decoder.dimensions().unwrap();
        return (
            rgb,
            [width, height].map(|side| u32::try_from(side).unwrap()),
        );
    }
    let picture = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .unwrap();
    let picture = picture.decode().unwrap().into_rgb8();
    let size = [picture.width(), picture.height()];
    (picture.into_raw(), size)
}

fn frames(with: &With, input: &Input, cut: &Cut) -> Vec<Vec<u8>> {
    let video = with.probe(input).unwrap();
    let frames = with
        .ffmpeg
        .frames(input, &video, cut, &with.limits)
        .unwrap();
    frames.map(|frame| frame.unwrap().into()).collect()
}

/// Mean of the absolute differences, in levels of 255.
fn difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: u64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let mean = sum as f64 / a.len() as f64;
    mean
}

/// A clip with detail, colours and motion, and the timestamps of some of its frames.
fn detailed(with: &With) -> Option<(Input, Video)> {
    with.run(&[
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=640x368:rate=25:duration=1",
        "-c:v",
        "libx264",
        "-qp",
        "12",
        "-pix_fmt",
        "yuv420p",
        "detailed.mp4",
    ]);
    let input = Input::Path(with.path("detailed.mp4"));
    let video = with.probe(&input).ok()?;
    Some((input, video))
}

#[test]
fn png_is_lossless_and_jpeg_is_as_good_as_it_says() {
    let Some(with) = With::new() else { return };
    let Some((input, video)) = detailed(&with) else {
        return;
    };
    let times = vec![video.times[4], video.times[4], video.times[20]];
    let raw = frames(&with, &input, &Cut::whole(times.clone(), Encoding::Rgb8));
    assert_eq!(raw.len(), 3);
    assert_eq!(raw[0], raw[1], "one that is asked for twice comes twice");
    assert_ne!(raw[0], raw[2]);
    assert_eq!(
        raw,
        frames(&with, &input, &Cut::whole(times.clone(), Encoding::Rgb8)),
        "again"
    );
    let png = frames(&with, &input, &Cut::whole(times.clone(), Encoding::Png));
    for (png, raw) in png.iter().zip(&raw) {
        assert_eq!(decoded(png), (raw.clone(), [640, 368]));
    }
    let mut last = f64::INFINITY;
    for (quality, most) in [(50, 6.0), (80, 4.0), (90, 2.0), (95, 1.2), (100, 0.6)] {
        let cut = Cut::whole(times.clone(), Encoding::Jpeg { quality });
        let jpeg = frames(&with, &input, &cut);
        let off = difference(&decoded(&jpeg[2]).0, &raw[2]);
        println!("JPEG {quality}: {} bytes, {off:.3} levels", jpeg[2].len());
        assert!(off < most && off < last, "quality {quality}: {off}");
        last = off;
    }
}

/// Against a resize of the frame in full size with the same filter, as Pillow does it.
#[test]
fn scaling_on_the_way_is_near_scaling_afterwards() {
    let Some(with) = With::new() else { return };
    let Some((input, video)) = detailed(&with) else {
        return;
    };
    let full = Cut::whole(vec![video.times[7]], Encoding::Rgb8);
    let whole = frames(&with, &input, &full).remove(0);
    for (filter, same) in [
        (Filter::Bilinear, fir::FilterType::Bilinear),
        (Filter::Bicubic, fir::FilterType::CatmullRom),
        (Filter::Lanczos, fir::FilterType::Lanczos3),
    ] {
        // Smaller, much smaller with another aspect, larger.
        for [width, height] in [[384, 224], [96, 96], [960, 544]] {
            let mut cut = full.clone();
            (cut.filter, cut.resize) = (filter, Some([width, height]));
            let here = frames(&with, &input, &cut).remove(0);
            let from =
                fir::images::Image::from_vec_u8(640, 368, whole.clone(), fir::PixelType::U8x3);
            let mut to = fir::images::Image::new(width, height, fir::PixelType::U8x3);
            let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(same));
            fir::Resizer::new()
                .resize(&from.unwrap(), &mut to, Some(&options))
                .unwrap();
            let off = difference(&here, to.buffer());
            println!("{filter:?} to {width}x{height}: {off:.3} levels");
            assert!(off < 2.5, "{filter:?} to {width}x{height}: {off}");
            // A crop is a part of exactly that.
            cut.crop = Some([5, 9, 33, 41]);
            let part = frames(&with, &input, &cut).remove(0);
            let row = |y: usize| {
                let at = ((9 + y) * width as usize + 5) * 3;
                &here[at..at + 33 * 3]
            };
            let expected: Vec<u8> = (0..41).flat_map(row).copied().collect();
            assert_eq!(part, expected);
        }
    }
}

#[test]
fn jpegs_pass_through_untouched() {
    let Some(with) = With::new() else { return };
    for container in ["avi", "mkv", "mov"] {
        let name = format!("clip.{container}");
        let mut numbered = Numbered::new(Codec::Mjpeg, 40);
        numbered.rate = (30000, 1001);
        let Some(input) = with.clip(&name, &numbered) else {
            return;
        };
        let file = std::fs::read(with.path(&name)).unwrap();
        let video = with.probe(&input).unwrap();
        assert!(video.is_jpegs());
        for chosen in [vec![0, 1, 2], vec![3, 17, 17, 39], (0..40).collect()] {
            let times = chosen
                .iter()
                .map(|&n: &u32| video.times[n as usize])
                .collect();
            let jpegs = frames(&with, &input, &Cut::whole(times, Encoding::Source));
            let numbers: Vec<_> = jpegs
                .iter()
                .map(|jpeg| {
                    assert!(file.windows(jpeg.len()).any(|part| part == jpeg), "{name}");
                    let (rgb, size) = decoded(jpeg);
                    read_blocks(&rgb, size)
                })
                .collect();
            assert_eq!(numbers, all_of(chosen), "{name}");
        }
    }
}

#[test]
fn turned_jpegs_do_not_pass_through() {
    let Some(with) = With::new() else { return };
    let mut numbered = Numbered::new(Codec::Mjpeg, 12);
    numbered.rotation = 90;
    let Some(input) = with.clip("turned.mov", &numbered) else {
        return;
    };
    let video = with.probe(&input).unwrap();
    assert!(!video.is_jpegs());
    let cut = Cut::whole(video.times.clone(), Encoding::Source);
    let error = with
        .ffmpeg
        .frames(&input, &video, &cut, &with.limits)
        .unwrap_err();
    assert!(error.to_string().contains("turned"), "{error}");
}
