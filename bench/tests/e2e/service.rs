//! Latents through the service are the latents of the encoder itself.

use std::fs;

use preheat_client::{Batch, Config, Posterior};
use preheat_models::{DType, Device, Encoder, PixelData, Pixels, Scale, Source, image, open};
use tempfile::TempDir;

use crate::{config, folder, latent, replica, run};

/// Largest difference of any value, between latents of about unit scale.
const TOLERANCE: f32 = 1e-6;

/// What the encoder makes of one sample alone, in this process, from the file.
fn alone(model: &mut dyn Encoder, folder: &TempDir, batch: &Batch, index: usize) -> Vec<f32> {
    let sample = &batch.samples[index];
    let bytes = fs::read(folder.path().join(&sample.key)).unwrap();
    let size = [batch.bucket.width, batch.bucket.height];
    let transform = image::Transform {
        resize: [
            sample.transform.resize.width,
            sample.transform.resize.height,
        ],
        crop: [sample.transform.crop_x, sample.transform.crop_y],
        size,
        filter: image::Filter::Lanczos,
        flip: sample.transform.flip,
    };
    let rgb = image::apply(image::decode(&bytes, u64::MAX).unwrap(), &transform).unwrap();
    let [width, height] = size.map(|side| side as usize);
    let data = PixelData::Rgb8(rgb.data);
    let moments = model
        .encode(&Pixels {
            batch: 1,
            frames: 1,
            height,
            width,
            data,
        })
        .unwrap();
    moments.latent(
        0,
        model.spec(),
        preheat_models::Posterior::Mode,
        Scale::Normalized,
    )
}

#[test]
fn latents_equal_the_encoders_and_do_not_depend_on_batch_mates() {
    let (folder, replica) = (folder(1), replica("builtin:tiny"));
    let batches = run(config(&folder, &replica));
    let mut model = open(&Source::BuiltinTiny, Device::Cpu, DType::F32).unwrap();
    let mut seen = 0;
    for batch in &batches {
        for index in 0..batch.samples.len() {
            let expected = alone(model.as_mut(), &folder, batch, index);
            let got = latent(batch, index);
            let worst = got
                .iter()
                .zip(&expected)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert_eq!(got.len(), expected.len());
            assert!(
                worst <= TOLERANCE,
                "{}: {worst:e}",
                batch.samples[index].key
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 24);
}

#[test]
fn a_model_without_a_posterior_says_so() {
    let (folder, replica) = (folder(1), replica("builtin:tiny"));
    let config = Config {
        posterior: Posterior::Sample,
        ..config(&folder, &replica)
    };
    let error = preheat_client::DataLoader::new(config)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("posterior"), "{error}");
}
