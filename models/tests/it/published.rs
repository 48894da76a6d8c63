//! Published models at full size, from what `tests/published/make.py` made: none of their weights,
//! but their configs and the names, dtypes and shapes of their tensors as diffusers has them.

use std::{fs, path::PathBuf};

use safetensors::{Dtype, tensor::TensorView};
use tempfile::TempDir;

use crate::{
    checkpoint::{assert_says, refusal},
    hollow::{Listed, WEIGHTS, hollow},
    parity::{batch, distance, encoder, golden},
};

/// Models, and how many tensors their encoders have, `quant_conv` and batch norm included.
const MODELS: [(&str, usize); 13] = [
    ("sd", 108),
    ("flux-1", 106),
    ("flux-2", 108 + 3),
    ("qwen-image", 86),
    ("wan-2.1", 86),
    ("wan-2.2", 86),
    ("hunyuan-video", 108),
    ("hunyuan-video-1.5", 94),
    ("cogvideox", 128),
    ("mochi", 275),
    ("dc-f32c32", 179),
    ("svd", 108),
    ("tiny", 67),
];

fn folder(model: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/published")
        .join(model)
}

fn listed(model: &str) -> Vec<Listed> {
    let text = fs::read_to_string(folder(model).join("tensors.txt")).expect("a list");
    text.lines().map(Listed::parse).collect()
}

/// Neither more nor fewer. Every single tensor is tested with the small goldens, which load faster.
#[test]
fn encoders_take_exactly_the_tensors_that_diffusers_has() {
    for (model, count) in MODELS {
        let tensors = listed(model);
        assert_eq!(tensors.len(), count, "{model}");
        encoder(hollow(&folder(model), &tensors).path());
        let first = tensors
            .iter()
            .position(|tensor| tensor.name.starts_with("encoder."));
        let mut fewer = tensors.clone();
        let lost = fewer.remove(first.expect("an encoder"));
        let missing = format!("{WEIGHTS}: missing tensor `{}` of shape", lost.name);
        assert_says(&refusal(hollow(&folder(model), &fewer).path()), &[&missing]);
    }
}

/// The recipe of `make.py`, to the bit: `values` numbers in [-1, 1) for a name.
fn uniform(name: &str, values: usize) -> impl Iterator<Item = f32> {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    (0..values as u64).map(move |index| {
        let mut x = seed.wrapping_add(index).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        (x >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    })
}

/// Norm scales 1 +- 0.2, biases +- 0.2, everything else of variance `1 / inputs`.
fn weights(Listed { name, shape, .. }: &Listed) -> Vec<f32> {
    let (centre, spread) = match shape.as_slice() {
        [_] if name.ends_with(".weight") => (1.0, 0.2),
        [_] => (0.0, 0.2),
        [_, inputs @ ..] => (0.0, (3.0 / inputs.iter().product::<usize>() as f32).sqrt()),
        [] => panic!("{name} is a scalar"),
    };
    let values = uniform(name, shape.iter().product());
    values.map(|x| x * spread + centre).collect()
}

/// A checkpoint with the weights of the recipe, in the layout and with the writer of the real ones.
pub(crate) fn full_size(model: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = folder(model).join("config.json");
    fs::copy(config, dir.path().join("config.json")).expect("copies");
    let bytes = |tensor: Listed| {
        let values = weights(&tensor);
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        (tensor, bytes)
    };
    let tensors: Vec<_> = listed(model).into_iter().map(bytes).collect();
    let views = tensors.iter().map(|(tensor, bytes)| {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).expect("fits");
        (tensor.name.as_str(), view)
    });
    safetensors::serialize_to_file(views, None, &dir.path().join(WEIGHTS)).expect("writes");
    dir
}

/// Tiny nets hide mistakes of indexes and shapes that show at the real number of channels.
#[test]
fn stable_diffusion_at_full_size_is_as_in_diffusers() {
    let golden = golden(&folder("sd"));
    for (name, values) in [
        ("pixels", uniform("pixels", 3 * 64 * 64).collect()),
        (
            "encoder.conv_in.weight",
            weights(&Listed::parse("encoder.conv_in.weight F32 128x3x3x3")),
        ),
    ] {
        assert_eq!(values, golden[name].values, "{name} is not made alike");
    }
    let dir = full_size("sd");
    let mut encoder = encoder(dir.path());
    let moments = encoder.encode(&batch(&golden)).expect("encodes");
    let logvar = moments.logvar.expect("has a posterior");
    assert_eq!(moments.shape, [1, 4, 1, 8, 8]);
    for (name, values) in [("mean", &moments.mean), ("logvar", &logvar)] {
        let distance = distance(values, &golden[name].values);
        println!("{name}: {distance:.1e}");
        assert!(distance <= 1e-5, "{name}: {distance:e}");
    }
}
