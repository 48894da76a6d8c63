//! Checkpoints that are not as they should be: the error says what, where, and what was expected.

use std::{fs, path::Path};

use preheat_models::{DType, Device, PixelData, Pixels, Source, open};
use tempfile::TempDir;

use crate::{
    hollow::WEIGHTS,
    parity::{encoder, goldens},
};

/// A copy of a good checkpoint.
pub(crate) fn copy() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for name in ["config.json", WEIGHTS] {
        let from = goldens().join("kl-plain/a").join(name);
        fs::copy(from, dir.path().join(name)).expect("copies");
    }
    dir
}

/// The error of opening `dir`, in words.
pub(crate) fn refusal(dir: &Path) -> String {
    match open(&Source::Directory(dir.to_owned()), Device::Cpu, DType::F32) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

pub(crate) fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

/// Edits a file of a copy and expects these words.
pub(crate) fn edited(name: &str, edit: impl Fn(Vec<u8>) -> Vec<u8>, words: &[&str]) {
    let dir = copy();
    let path = dir.path().join(name);
    let bytes = edit(fs::read(&path).expect("reads"));
    fs::write(&path, bytes).expect("writes");
    let text = refusal(dir.path());
    assert_says(&text, &[name]);
    assert_says(&text, words);
}

/// Replaces text in the config or in the header of the weights (by text of the same length).
pub(crate) fn replaced(name: &str, [from, to]: [&str; 2], words: &[&str]) {
    let edit = |bytes: Vec<u8>| {
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("no `{from}` in {name}"));
        [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
    };
    edited(name, edit, words);
}

#[test]
fn missing_files() {
    assert_says(
        &refusal(Path::new("no/such/folder")),
        &["no/such/folder", "config.json"],
    );
    let dir = copy();
    fs::remove_file(dir.path().join(WEIGHTS)).expect("removes");
    assert_says(
        &refusal(dir.path()),
        &["no weights", WEIGHTS, "index.json", "fp16"],
    );
}

#[test]
fn wrong_configs() {
    let name = "config.json";
    edited(name, |_| b"{".to_vec(), &["not JSON"]);
    edited(name, |_| b"{}".to_vec(), &["_class_name"]);
    replaced(
        name,
        ["AutoencoderKL", "AutoencoderOobleck"],
        &["AutoencoderOobleck", "AutoencoderKL, ", "AutoencoderTiny"],
    );
    replaced(
        name,
        ["\"norm_num_groups\": 8", "\"norm_num_groups\": 7"],
        &["7 norm groups"],
    );
    replaced(
        name,
        ["\"act_fn\": \"silu\"", "\"act_fn\": \"tanh\""],
        &["tanh", "silu"],
    );
    replaced(
        name,
        ["\"latent_channels\": 4", "\"latent_channels\": 0"],
        &["0 channels"],
    );
}

#[test]
fn weights_that_do_not_fit_the_config() {
    replaced(
        WEIGHTS,
        ["encoder.conv_in.bias", "encoder.conv_xx.bias"],
        &["missing tensor `encoder.conv_in.bias`", "[8]"],
    );
    let dir = copy();
    let path = dir.path().join("config.json");
    let config = fs::read_to_string(&path).expect("reads");
    let set = |from: &str, to: &str| {
        assert!(config.contains(from), "no `{from}` in the config");
        fs::write(&path, config.replace(from, to)).expect("writes");
        refusal(dir.path())
    };
    let text = set("\"latent_channels\": 4", "\"latent_channels\": 6");
    assert_says(
        &text,
        &[
            WEIGHTS,
            "encoder.conv_out.weight",
            "[8, 16, 3, 3]",
            "[12, 16, 3, 3]",
        ],
    );
    let text = set(
        "\"mid_block_add_attention\": true",
        "\"mid_block_add_attention\": false",
    );
    assert_says(
        &text,
        &["unexpected", "encoder.mid_block.attentions.0", "and 6 more"],
    );
}

#[test]
fn damaged_weights() {
    edited(WEIGHTS, |_| Vec::new(), &["truncated"]);
    edited(WEIGHTS, |bytes| bytes[..5].to_vec(), &["truncated"]);
    edited(
        WEIGHTS,
        |bytes| bytes[..100].to_vec(),
        &["truncated", "header"],
    );
    edited(
        WEIGHTS,
        |bytes| bytes[..bytes.len() - 1].to_vec(),
        &["truncated", "promises"],
    );
    edited(
        WEIGHTS,
        |bytes| [&bytes[..], &[0]].concat(),
        &["damaged", "promises"],
    );
    let huge = |bytes: Vec<u8>| [&u64::MAX.to_le_bytes(), &bytes[8..]].concat();
    edited(WEIGHTS, huge, &["header"]);
    let no_json = |mut bytes: Vec<u8>| {
        bytes[8] = b'?';
        bytes
    };
    edited(WEIGHTS, no_json, &["damaged safetensors header"]);
    replaced(
        WEIGHTS,
        ["\"data_offsets\":[0,", "\"data_offsets\":[4,"],
        &["header"],
    );
    replaced(
        WEIGHTS,
        [
            "\"encoder.conv_in.bias\":{\"dtype\":\"F32\"",
            "\"encoder.conv_in.bias\":{\"dtype\":\"I32\"",
        ],
        &["I32", "F32"],
    );
}

#[test]
fn shards() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let from = goldens().join("kl-sharded/a");
    let mut shards = Vec::new();
    for entry in fs::read_dir(from).expect("the golden") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a file").to_owned();
        fs::copy(&path, dir.path().join(&name)).expect("copies");
        let name = name.to_string_lossy().into_owned();
        if name.contains("-of-") {
            shards.push(name);
        }
    }
    shards.sort();
    fs::remove_file(dir.path().join(&shards[0])).expect("removes");
    assert_says(&refusal(dir.path()), &["cannot read", &shards[0]]);
    fs::copy(dir.path().join(&shards[1]), dir.path().join(&shards[0])).expect("copies");
    assert_says(&refusal(dir.path()), &["index.json", "no shard holds"]);
}

#[test]
fn a_pipelines_folder_and_links_as_in_a_hub_cache() {
    let pipeline = tempfile::tempdir().expect("a temporary folder");
    let vae = pipeline.path().join("vae");
    fs::create_dir(&vae).expect("creates");
    for name in ["config.json", WEIGHTS] {
        let blob = goldens().join("kl-plain/a").join(name);
        #[cfg(unix)]
        std::os::unix::fs::symlink(blob, vae.join(name)).expect("links");
        #[cfg(not(unix))]
        fs::copy(blob, vae.join(name)).expect("copies");
    }
    let direct = encoder(&goldens().join("kl-plain/a")).spec().clone();
    assert_eq!(encoder(pipeline.path()).spec(), &direct);
    assert_eq!(encoder(&vae).spec(), &direct);
}

#[test]
fn sizes_below_the_minimum() {
    let mut encoder = encoder(&goldens().join("kl-no-attention/a"));
    let pixels = Pixels {
        batch: 1,
        frames: 1,
        height: 7,
        width: 33,
        data: PixelData::Planar(vec![0.0; 3 * 7 * 33]),
    };
    let text = encoder.encode(&pixels).expect_err("too small").to_string();
    assert_says(&text, &["33x7", "nearest", "32x8"]);
}

#[test]
fn fingerprints_tell_models_apart_and_files_alike() {
    let of = |name: &str| encoder(&goldens().join(name)).spec().fingerprint;
    assert_eq!(of("kl-plain/a"), of("kl-plain/a"));
    assert_ne!(of("kl-two-layers/a"), of("kl-two-layers/b"));
    let dir = copy();
    assert_eq!(of("kl-plain/a"), encoder(dir.path()).spec().fingerprint);
    let path = dir.path().join("config.json");
    let config = fs::read_to_string(&path).expect("reads");
    fs::write(&path, config.replace("0.18215", "0.13025")).expect("writes");
    assert_ne!(of("kl-plain/a"), encoder(dir.path()).spec().fingerprint);
}
