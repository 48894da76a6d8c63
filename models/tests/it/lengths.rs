//! Latents of clips of classes whose norms see several frames together, so that a clip's first frames
//! have other latents than they would by themselves.

use std::{collections::BTreeMap, path::PathBuf};

use preheat_models::{Posterior, Scale};

use crate::{
    clips::first_frames,
    parity::{EQUAL, Golden, batch, cases, distance, encoder, goldens, tensors},
};

/// The names of what is compared.
const OUTPUTS: [&str; 3] = ["mean", "logvar", "latents"];

/// Every file with clips of several lengths: `models/tests/parity/<model>/<case>/lengths.safetensors`.
fn files() -> Vec<PathBuf> {
    let files = cases()
        .into_iter()
        .map(|dir| dir.join("lengths.safetensors"));
    let files: Vec<_> = files.filter(|file| file.exists()).collect();
    assert!(files.len() > 4, "goldens are missing");
    files
}

/// The lengths of which the file has latents.
fn lengths(golden: &BTreeMap<String, Golden>) -> Vec<usize> {
    let length = |name: &String| name.strip_prefix("mean.")?.parse().ok();
    golden.keys().filter_map(length).collect()
}

#[test]
fn every_length_is_met() {
    let mut failures = Vec::new();
    for file in files() {
        let mut encoder = encoder(file.parent().expect("a folder"));
        let golden = tensors(&file);
        let clip = batch(&golden);
        let lengths = lengths(&golden);
        assert!(lengths.len() > 3, "{}: {lengths:?}", file.display());
        for frames in lengths {
            let moments = encoder
                .encode(&first_frames(&clip, frames))
                .expect("encodes");
            let latents = moments.latent(0, encoder.spec(), Posterior::Mode, Scale::Normalized);
            let logvar = moments.logvar.as_ref().expect("a posterior");
            for (name, values) in OUTPUTS.into_iter().zip([&moments.mean, logvar, &latents]) {
                let name = format!("{name}.{frames}");
                let distance = distance(values, &golden[&name].values);
                let name = file.strip_prefix(goldens()).expect("a golden").join(name);
                println!("{:56} {distance:.1e}", name.display());
                if distance.is_nan() || distance > EQUAL {
                    failures.push(format!("{}: {distance:e}", name.display()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
