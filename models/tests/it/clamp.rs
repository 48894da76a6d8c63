//! Log-variances out of range, out of real encoders: diffusers clamps them to [-30, 20].

use std::{fs, path::Path};

use half::f16;
use preheat_models::{Moments, Posterior, Scale};
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

use crate::{
    hollow::WEIGHTS,
    parity::{batch, encoder, golden, goldens},
};

const LEAST: f32 = -30.0;
const MOST: f32 = 20.0;

/// Added to the log-variances of one channel after another: far beyond both ends, nothing, and to
/// the very ends, where some values of a channel are clamped and others are not.
const SHIFTS: [f32; 5] = [100.0, -100.0, 0.0, 20.0, -30.0];

/// Checkpoints, and the layer that log-variances come from.
const GOLDENS: [(&str, &str); 5] = [
    ("kl-plain/a", "quant_conv.bias"),
    ("kl-16-channels/a", "encoder.conv_out.bias"),
    ("flux2/a", "quant_conv.bias"),
    ("qwen-image/a", "quant_conv.bias"),
    ("wan-2.2/a", "quant_conv.bias"),
];

/// A copy of the checkpoint with these shifts from channel 0 of the log-variances on, and what they
/// are after rounding to the dtype of the file.
fn shifted(folder: &Path, bias: &str, turn: usize) -> (TempDir, Vec<f32>) {
    let mut bytes = fs::read(folder.join(WEIGHTS)).expect("reads");
    let (header, metadata) = SafeTensors::read_metadata(&bytes).expect("a header");
    let info = metadata.info(bias).expect("the bias");
    let (dtype, channels) = (info.dtype, info.shape[0] / 2);
    let start = 8 + header + info.data_offsets.0;
    let mut shifts = Vec::new();
    for channel in 0..channels {
        let shift = SHIFTS[(channel + turn) % SHIFTS.len()];
        let at = channels + channel;
        shifts.push(match dtype {
            Dtype::F32 => {
                let value: &mut [u8; 4] = &mut bytes[start + 4 * at..].as_chunks_mut().0[0];
                let old = f32::from_le_bytes(*value);
                *value = (old + shift).to_le_bytes();
                f32::from_le_bytes(*value) - old
            }
            Dtype::F16 => {
                let value: &mut [u8; 2] = &mut bytes[start + 2 * at..].as_chunks_mut().0[0];
                let old = f16::from_le_bytes(*value).to_f32();
                *value = f16::from_f32(old + shift).to_le_bytes();
                f16::from_le_bytes(*value).to_f32() - old
            }
            other => panic!("{bias} is {other:?}"),
        });
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join(WEIGHTS), bytes).expect("writes");
    fs::copy(folder.join("config.json"), dir.path().join("config.json")).expect("copies");
    (dir, shifts)
}

/// Every log-variance, with what was added to its channel.
fn logvar<'a>(moments: &'a Moments, shifts: &'a [f32]) -> impl Iterator<Item = (f32, f32)> + 'a {
    let [_, channels, frames, height, width] = moments.shape;
    let plane = frames * height * width;
    let values = moments.logvar.as_ref().expect("a posterior").iter();
    let shift = move |at: usize| shifts[at / plane % channels];
    values
        .enumerate()
        .map(move |(at, &value)| (value, shift(at)))
}

#[test]
fn log_variances_out_of_range_are_clamped_one_by_one() {
    for (name, bias) in GOLDENS {
        let folder = goldens().join(name);
        let pixels = batch(&golden(&folder));
        let plain = encoder(&folder).encode(&pixels).expect("encodes");
        // Values that were clamped, and that were not, of a channel at the upper and the lower end.
        let mut ends = [[0; 2]; 2];
        for turn in 0..SHIFTS.len() {
            let (dir, shifts) = shifted(&folder, bias, turn);
            let moments = encoder(dir.path()).encode(&pixels).expect("encodes");
            assert_eq!(moments.mean, plain.mean, "{name}: means moved");
            let before = logvar(&plain, &shifts);
            for ((value, shift), (was, _)) in logvar(&moments, &shifts).zip(before) {
                let case = format!("{name}: {was} + {shift} came out as {value}");
                match shift {
                    90.0.. => assert!(value == MOST, "{case}"),
                    ..-90.0 => assert!(value == LEAST, "{case}"),
                    0.0 => assert!(value == was, "{case}"),
                    _ => {
                        let expected = (was + shift).clamp(LEAST, MOST);
                        assert!((value - expected).abs() < 1e-4, "{case}");
                        let clamped = value == LEAST || value == MOST;
                        ends[usize::from(shift < 0.0)][usize::from(clamped)] += 1;
                    }
                }
            }
        }
        let enough = ends.as_flattened().iter().all(|&n| n > 3);
        assert!(enough, "{name}: {ends:?} are too few to tell");
    }
}

#[test]
fn samples_of_clamped_posteriors_are_finite() {
    let folder = goldens().join("kl-plain/a");
    let (dir, shifts) = shifted(&folder, "quant_conv.bias", 0);
    let mut encoder = encoder(dir.path());
    let moments = encoder.encode(&batch(&golden(&folder))).expect("encodes");
    let sample = moments.latent(0, encoder.spec(), Posterior::Sample(7), Scale::Raw);
    let plane = sample.len() / shifts.len();
    for (channel, values) in sample.chunks_exact(plane).enumerate() {
        let means = &moments.mean[channel * plane..];
        let furthest = values.iter().zip(means).map(|(x, mean)| (x - mean).abs());
        let furthest = furthest.fold(0.0, f32::max);
        // Standard deviations of `exp(20 / 2)` and `exp(-30 / 2)`, times a few.
        match shifts[channel] {
            90.0.. => assert!((2e4..2e5).contains(&furthest), "{furthest}"),
            ..-90.0 => assert!(furthest < 3e-6, "{furthest}"),
            _ => assert!(furthest.is_finite(), "{furthest}"),
        }
    }
}
