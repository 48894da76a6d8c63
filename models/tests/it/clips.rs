//! Latents of clips against diffusers', and against themselves.

use std::{
    fs,
    path::{Path, PathBuf},
};

use preheat_models::{Encoder, Error, Moments, PixelData, Pixels, Posterior, Scale};

use crate::parity::{EQUAL, SAME, batch, cases, distance, encoder, goldens, tensors};

/// Every clip: `models/tests/parity/<model>/<case>/clip-<frames>.safetensors`.
fn clips() -> Vec<PathBuf> {
    let files = |dir: &PathBuf| {
        let entries = fs::read_dir(dir).expect("the folder of a golden");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let clip = |path: &PathBuf| name(path).is_some_and(|name| name.starts_with("clip-"));
        paths.filter(clip).collect::<Vec<_>>()
    };
    let mut clips: Vec<_> = cases().iter().flat_map(files).collect();
    clips.sort();
    assert!(clips.len() > 5, "goldens are missing");
    clips
}

/// The first frames of every clip of a batch of planar pixels.
pub(crate) fn first_frames(pixels: &Pixels, frames: usize) -> Pixels {
    let PixelData::Planar(values) = &pixels.data else {
        panic!("goldens are planar")
    };
    let plane = pixels.height * pixels.width;
    let colours = values.chunks_exact(pixels.frames * plane);
    let first = colours
        .flat_map(|colour| &colour[..frames * plane])
        .copied();
    Pixels {
        frames,
        data: PixelData::Planar(first.collect()),
        ..*pixels
    }
}

/// The values of the first `frames` latent frames, of `all` that each channel has.
fn first_values(values: &[f32], [frames, all]: [usize; 2], cells: usize) -> Vec<f32> {
    let channels = values.chunks_exact(all * cells);
    channels
        .flat_map(|channel| &channel[..frames * cells])
        .copied()
        .collect()
}

fn latents(encoder: &dyn Encoder, moments: &Moments) -> Vec<f32> {
    let latent = |index| moments.latent(index, encoder.spec(), Posterior::Mode, Scale::Normalized);
    (0..moments.shape[0]).flat_map(latent).collect()
}

#[test]
fn every_clip_is_met_at_every_length() {
    let mut failures = Vec::new();
    for file in clips() {
        let dir = file.parent().expect("a folder");
        let mut encoder = encoder(dir);
        let golden = tensors(&file);
        let clip = batch(&golden);
        let spec = encoder.spec().clone();
        let all = (clip.frames - 1) / spec.temporal_compression + 1;
        for frames in (1..=clip.frames).step_by(spec.frame_step) {
            let pixels = first_frames(&clip, frames);
            let moments = encoder.encode(&pixels).expect("encodes");
            let [_, _, latent_frames, height, width] = moments.shape;
            assert_eq!(
                latent_frames,
                (frames - 1) / spec.temporal_compression + 1,
                "{}",
                file.display()
            );
            let latents = latents(encoder.as_ref(), &moments);
            for (name, values) in [
                ("mean", &moments.mean),
                ("logvar", moments.logvar.as_ref().expect("a posterior")),
                ("latents", &latents),
            ] {
                let expected = &golden[name].values;
                let expected = first_values(expected, [latent_frames, all], height * width);
                let distance = distance(values, &expected);
                let name = file.strip_prefix(goldens()).expect("a golden").join(name);
                println!("{:44} {frames:2} frames {distance:.1e}", name.display());
                if distance.is_nan() || distance > EQUAL {
                    failures.push(format!("{}, {frames} frames: {distance:e}", name.display()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_batch_of_clips_is_its_clips() {
    for name in [
        "qwen-image/a/clip-9.safetensors",
        "ltx-0.9.0/a/clip-9.safetensors",
        "svd/a/clip-5.safetensors",
        "mochi/a/clip-7.safetensors",
    ] {
        let file = goldens().join(name);
        let mut encoder = encoder(file.parent().expect("a folder"));
        let pixels = batch(&tensors(&file));
        assert!(pixels.batch > 1, "{name} has one clip");
        let PixelData::Planar(values) = &pixels.data else {
            panic!("goldens are planar")
        };
        let together = encoder.encode(&pixels).expect("encodes");
        let mut alone = Vec::new();
        for clip in values.chunks_exact(values.len() / pixels.batch) {
            let single = Pixels {
                batch: 1,
                data: PixelData::Planar(clip.to_vec()),
                ..pixels
            };
            alone.extend(encoder.encode(&single).expect("encodes").mean);
        }
        let distance = distance(&together.mean, &alone);
        assert!(distance <= SAME, "{name}: {distance:e}");
    }
}

#[test]
fn a_length_that_does_not_fit_is_refused_with_those_that_do() {
    let mut encoder = encoder(&goldens().join("wan-2.1/a"));
    assert_eq!(encoder.spec().frame_step, 4);
    for (frames, nearest) in [(2, [1, 5]), (8, [5, 9]), (16, [13, 17])] {
        let pixels = Pixels {
            batch: 1,
            frames,
            height: 16,
            width: 16,
            data: PixelData::Rgb8(vec![0; frames * 16 * 16 * 3]),
        };
        let error = encoder.encode(&pixels).expect_err("does not fit");
        let Error::Frames { below, above, .. } = error else {
            panic!("{frames} frames: {error}")
        };
        assert_eq!([below, above], nearest);
        let [below, above] = nearest.map(|frames| frames.to_string());
        let text = error.to_string();
        assert!(text.contains(&below) && text.contains(&above), "{text}");
    }
}
