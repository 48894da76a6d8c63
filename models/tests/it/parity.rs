//! Latents against diffusers', from goldens that `tests/parity/make_goldens.py` made.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use preheat_models::{
    DType, Device, Encoder, Error, Options, PixelData, Pixels, Posterior, Scale, Source, open,
    open_with,
};
use safetensors::SafeTensors;

/// Relative L2 that counts as equal in f32.
pub(crate) const EQUAL: f64 = 1e-5;

/// Relative L2 between an element alone and in a batch.
pub(crate) const SAME: f64 = 1e-6;

/// A tensor of a golden file.
pub(crate) struct Golden {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// The folder of the goldens: these, or those that the environment names, to try more of them.
pub(crate) fn goldens() -> PathBuf {
    let elsewhere = std::env::var("PREHEAT_TEST_GOLDENS").map(PathBuf::from);
    elsewhere.unwrap_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity"))
}

/// The device under test: the CPU, or what the environment names.
fn device() -> Device {
    let name = std::env::var("PREHEAT_TEST_DEVICE");
    name.map_or(Device::Cpu, |name| {
        name.parse().expect("the name of a device")
    })
}

/// Opens a checkpoint in f32.
pub(crate) fn encoder(dir: &Path) -> Box<dyn Encoder> {
    encoder_in(dir, DType::F32)
}

/// Opens a checkpoint in `dtype`; those whose name says so are tiled.
fn encoder_in(dir: &Path, dtype: DType) -> Box<dyn Encoder> {
    try_encoder_in(dir, dtype).unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}

fn try_encoder_in(dir: &Path, dtype: DType) -> Result<Box<dyn Encoder>, Error> {
    let options = Options {
        device: device(),
        dtype: Some(dtype),
        tiling: dir.to_string_lossy().contains("tiled"),
        slicing: false,
    };
    open_with(&Source::Directory(dir.to_owned()), options)
}

/// The tensors of `dir/golden.safetensors`.
pub(crate) fn golden(dir: &Path) -> BTreeMap<String, Golden> {
    tensors(&dir.join("golden.safetensors"))
}

/// The tensors of a golden file.
pub(crate) fn tensors(file: &Path) -> BTreeMap<String, Golden> {
    let bytes = fs::read(file).expect("a golden");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let values = view
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b));
        let golden = Golden {
            shape: view.shape().to_vec(),
            values: values.collect(),
        };
        (name, golden)
    };
    file.tensors().into_iter().map(tensor).collect()
}

/// `pixels` of a golden, as a batch.
pub(crate) fn batch(golden: &BTreeMap<String, Golden>) -> Pixels {
    let Golden { shape, values } = &golden["pixels"];
    let (frames, height, width) = match *shape.as_slice() {
        [_, 3, height, width] => (1, height, width),
        [_, 3, frames, height, width] => (frames, height, width),
        ref other => panic!("pixels of shape {other:?}"),
    };
    Pixels {
        batch: shape[0],
        frames,
        height,
        width,
        data: PixelData::Planar(values.clone()),
    }
}

/// Relative L2 distance of `a` from `b`.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "number of values");
    let square = |x: f64| x * x;
    let difference = |(a, b): (&f32, &f32)| square(f64::from(*a) - f64::from(*b));
    let error: f64 = a.iter().zip(b).map(difference).sum();
    let norm: f64 = b.iter().map(|&b| square(f64::from(b))).sum();
    (error / norm).sqrt()
}

/// Every golden: `models/tests/parity/<model>/<case>`.
pub(crate) fn cases() -> Vec<PathBuf> {
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).expect("the folder of goldens");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut cases: Vec<_> = folders(&goldens())
        .iter()
        .flat_map(|model| folders(model))
        .collect();
    cases.sort();
    assert!(cases.len() > 10, "goldens are missing");
    cases
}

#[test]
fn every_golden_is_met() {
    let mut failures = Vec::new();
    for dir in cases() {
        let mut encoder = encoder(&dir);
        let golden = golden(&dir);
        let pixels = batch(&golden);
        let moments = encoder.encode(&pixels).expect("encodes");
        let latent =
            |index| moments.latent(index, encoder.spec(), Posterior::Mode, Scale::Normalized);
        let latents = (0..pixels.batch).flat_map(latent).collect::<Vec<_>>();
        let logvar = moments.logvar.clone().unwrap_or_default();
        for (name, values) in [
            ("mean", &moments.mean),
            ("logvar", &logvar),
            ("latents", &latents),
        ] {
            let Some(expected) = golden.get(name) else {
                assert!(
                    values.is_empty(),
                    "{}: {name} is not expected",
                    dir.display()
                );
                continue;
            };
            let distance = distance(values, &expected.values);
            let name = dir.strip_prefix(goldens()).expect("a golden").join(name);
            println!("{:40} {distance:.1e}", name.display());
            if distance.is_nan() || distance > EQUAL {
                failures.push(format!("{}: {distance:e}", name.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn half_precision_is_near() {
    for dir in cases().iter().filter(|dir| dir.ends_with("a")) {
        let golden = golden(dir);
        for (dtype, near) in [(DType::F16, 5e-3), (DType::BF16, 3e-2)] {
            let mut encoder = match try_encoder_in(dir, dtype) {
                Err(Error::NoDType { device, .. }) if device != Device::Cpu => continue,
                encoder => encoder.unwrap_or_else(|error| panic!("{}: {error}", dir.display())),
            };
            let moments = encoder.encode(&batch(&golden)).expect("encodes");
            let distance = distance(&moments.mean, &golden["mean"].values);
            println!("{} {dtype}: {distance:.1e}", dir.display());
            assert!(
                distance <= near,
                "{} in {dtype}: {distance:e}",
                dir.display()
            );
            // The goldens' weights are exact in f16.
            let rounds = dtype == DType::BF16;
            assert!(
                !rounds || distance > SAME,
                "{} in {dtype}: not rounded",
                dir.display()
            );
        }
    }
}

#[test]
fn tiling_changes_the_fingerprint() {
    let source = Source::Directory(goldens().join("kl-tiled/a"));
    let fingerprint = |tiling| {
        let options = Options {
            device: Device::Cpu,
            dtype: Some(DType::F32),
            tiling,
            slicing: false,
        };
        open_with(&source, options)
            .expect("opens")
            .spec()
            .fingerprint
    };
    assert_ne!(fingerprint(true), fingerprint(false));
}

#[test]
fn a_batch_is_its_elements() {
    let names = [
        "kl-plain/a",
        "kl-tiled/a",
        "tiny-4-channels/a",
        "flux2/a",
        "qwen-image/a",
        "hunyuan-video/a",
        "cogvideox/a",
        "mochi/a",
        "dc-linear/a",
    ];
    for name in names {
        let dir = goldens().join(name);
        let mut encoder = encoder(&dir);
        let pixels = batch(&golden(&dir));
        let PixelData::Planar(values) = &pixels.data else {
            panic!("goldens are planar")
        };
        let together = encoder.encode(&pixels).expect("encodes");
        let mut alone = Vec::new();
        for element in values.chunks_exact(values.len() / pixels.batch) {
            let single = Pixels {
                batch: 1,
                data: PixelData::Planar(element.to_vec()),
                ..pixels
            };
            alone.extend(encoder.encode(&single).expect("encodes").mean);
        }
        let distance = distance(&together.mean, &alone);
        assert!(distance <= SAME, "{name}: {distance:e}");
    }
}

#[test]
fn bytes_are_the_same_as_pixels() {
    let mut encoder = open(&Source::BuiltinTiny, Device::Cpu, DType::F32).expect("is always there");
    let (height, width) = (16, 24);
    let bytes: Vec<u8> = (0..height * width * 3)
        .map(|i| (i * 37 % 251) as u8)
        .collect();
    let mut planar = vec![0.0; bytes.len()];
    for (at, &byte) in bytes.iter().enumerate() {
        planar[at % 3 * height * width + at / 3] = f32::from(byte) / 255.0 * 2.0 - 1.0;
    }
    let mut encode = |data| {
        let pixels = Pixels {
            batch: 1,
            frames: 1,
            height,
            width,
            data,
        };
        encoder.encode(&pixels).expect("encodes")
    };
    let moments = encode(PixelData::Rgb8(bytes));
    assert_eq!(moments, encode(PixelData::Planar(planar)));
    assert_eq!(moments.shape, [1, 4, 1, 2, 3]);
}
