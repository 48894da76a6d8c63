//! Weights that contradict themselves or their config, in every way that occurred to us: `open`
//! names the file and, where there is one, the tensor. None of it may panic.

mod header;

use std::fs;

use preheat_models::{DType, Device, Source, open};

use crate::{
    checkpoint::{assert_says, copy, edited, refusal},
    hollow::{Listed, WEIGHTS, hollow},
    parity::goldens,
};

/// One golden of every class, and of what makes classes differ in their tensors.
const GOLDENS: [&str; 14] = [
    "kl-plain/a",
    "kl-16-channels/a",
    "kl-attention-stages/a",
    "flux2/a",
    "qwen-image/a",
    "wan-2.2/a",
    "hunyuan-video/a",
    "hunyuan-video-1.5/a",
    "hunyuan-video-1.5-unmatched/a",
    "cogvideox-quant/a",
    "mochi/a",
    "dc-linear/a",
    "dc-strided/a",
    "tiny-4-channels/a",
];

/// What nobody needs: diffusers counts batches in training.
const IGNORED: &str = "bn.num_batches_tracked";

/// Whether a tensor bears on the encoder.
fn ours(name: &str) -> bool {
    let prefixes = ["encoder.", "quant_conv.", "bn."];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) && name != IGNORED
}

#[test]
fn every_tensor_is_needed() {
    for golden in GOLDENS {
        let folder = goldens().join(golden);
        let tensors = Listed::of(&folder);
        let mut needed = 0;
        for (index, lost) in tensors.iter().enumerate() {
            let mut rest = tensors.clone();
            rest.remove(index);
            let dir = hollow(&folder, &rest);
            if !ours(&lost.name) {
                let source = Source::Directory(dir.path().to_owned());
                open(&source, Device::Cpu, DType::F32).expect("it is not needed");
                continue;
            }
            needed += 1;
            let missing = format!(
                "{WEIGHTS}: missing tensor `{}` of shape {:?}",
                lost.name, lost.shape
            );
            assert_says(&refusal(dir.path()), &[&missing]);
        }
        assert!(needed > 20, "{golden}: {needed} of {}", tensors.len());
    }
}

#[test]
fn every_tensor_must_have_its_shape_and_a_float_dtype() {
    for golden in GOLDENS {
        let folder = goldens().join(golden);
        let tensors = Listed::of(&folder);
        for (index, tensor) in tensors.iter().enumerate().filter(|(_, t)| ours(&t.name)) {
            let refused = |changed: Listed, word: &str| {
                let mut tensors = tensors.clone();
                tensors[index] = changed;
                let tensor = format!("{WEIGHTS}: tensor `{}`", tensor.name);
                let text = refusal(hollow(&folder, &tensors).path());
                assert_says(&text, &[&tensor, word]);
            };
            let mut changed = tensor.clone();
            changed.shape[0] += 1;
            let shape = format!("{:?}, but config.json asks for", changed.shape);
            refused(changed, &shape);
            let mut changed = tensor.clone();
            changed.dtype = "I64".to_owned();
            refused(changed, "is I64; weights must be F16");
        }
    }
}

#[test]
fn no_tensor_of_an_encoder_may_be_left_over() {
    for golden in GOLDENS {
        let folder = goldens().join(golden);
        for name in [
            "encoder.down_blocks.9.extra",
            "quant_conv.extra",
            "decoder.extra",
        ] {
            let mut tensors = Listed::of(&folder);
            tensors.push(Listed::parse(&format!("{name} F32 2")));
            let dir = hollow(&folder, &tensors);
            if !ours(name) {
                let source = Source::Directory(dir.path().to_owned());
                open(&source, Device::Cpu, DType::F32).expect("decoders are not looked at");
                continue;
            }
            let surplus = format!("{WEIGHTS}: unexpected encoder tensors {name}: config.json");
            assert_says(&refusal(dir.path()), &[&surplus]);
        }
    }
}

#[test]
fn other_files_under_the_name() {
    let cases: [(&str, &[u8]); 6] = [
        ("nothing", b""),
        ("a byte", b"{"),
        (
            "a pointer of git-lfs",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        ),
        (
            "an archive, as PyTorch saves",
            b"PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00\x00\x00archive/data.pkl",
        ),
        (
            "a page",
            b"<!DOCTYPE html><html><head><title>404</title></head></html>",
        ),
        ("a list", b"\x02\0\0\0\0\0\0\0[]"),
    ];
    for (case, bytes) in cases {
        println!("{case}");
        edited(WEIGHTS, |_| bytes.to_vec(), &["safetensors"]);
    }
    let dir = copy();
    let path = dir.path().join(WEIGHTS);
    fs::remove_file(&path).expect("removes");
    fs::create_dir(&path).expect("creates");
    assert_says(&refusal(dir.path()), &["cannot read", WEIGHTS]);
}

#[test]
fn configs_and_indexes_that_are_not_ones() {
    let name = "config.json";
    let dir = copy();
    fs::remove_file(dir.path().join(name)).expect("removes");
    assert_says(&refusal(dir.path()), &["cannot read", name]);
    for text in [
        "",
        "null",
        "[]",
        "\u{0}",
        "{\"_class_name\": 1}",
        "{\"_class_name\": \"AutoencoderKL\"",
    ] {
        edited(name, |_| text.as_bytes().to_vec(), &[]);
    }
    let class = |_| br#"{"_class_name": "VQModel"}"#.to_vec();
    let served = [
        "class VQModel is not served",
        "AutoencoderKL, ",
        "AutoencoderKLFlux2",
        "AutoencoderKLQwenImage",
        "AutoencoderKLWan",
        "AutoencoderDC",
        "AutoencoderTiny",
    ];
    edited(name, class, &served);
    let name = "diffusion_pytorch_model.safetensors.index.json";
    let cases = [
        ("{", "not an index of shards"),
        ("{}", "weight_map"),
        (
            r#"{"weight_map": {"encoder.conv_in.bias": 1}}"#,
            "not an index of shards",
        ),
        (
            r#"{"weight_map": {"encoder.conv_in.bias": "../1.safetensors"}}"#,
            "not a plain file name",
        ),
        (
            r#"{"weight_map": {"encoder.conv_in.bias": "/etc/passwd"}}"#,
            "not a plain file name",
        ),
        (
            r#"{"weight_map": {"encoder.conv_in.bias": "gone.safetensors"}}"#,
            "gone.safetensors",
        ),
    ];
    for (text, word) in cases {
        let dir = copy();
        fs::remove_file(dir.path().join(WEIGHTS)).expect("removes");
        fs::write(dir.path().join(name), text).expect("writes");
        let file = if word.starts_with("gone") {
            "cannot read"
        } else {
            name
        };
        assert_says(&refusal(dir.path()), &[file, word]);
    }
}
