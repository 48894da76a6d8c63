//! Devices: what is refused, and when.

use std::fs;

use preheat_models::{Device, Error, Options, Source, choose, devices, open_with};

use crate::parity::goldens;

/// A GPU that no machine of these tests has, whichever backends are built in.
const NOWHERE: Device = Device::Cuda(4096);

fn on_nowhere(dir: &std::path::Path) -> Error {
    let options = Options {
        device: NOWHERE,
        ..Options::default()
    };
    open_with(&Source::Directory(dir.to_owned()), options)
        .map(drop)
        .expect_err("there is no such device")
}

#[test]
fn a_bad_checkpoint_is_refused_before_the_device_is_touched() {
    let sound = goldens().join("kl-plain/a");
    let error = on_nowhere(&sound);
    let of_the_device = matches!(error, Error::NoBackend { .. } | Error::UnknownDevice { .. });
    assert!(of_the_device, "{error}");

    let folder = tempfile::tempdir().expect("a folder");
    for file in ["config.json", "diffusion_pytorch_model.safetensors"] {
        fs::copy(sound.join(file), folder.path().join(file)).expect("a copy");
    }
    let path = folder.path().join("config.json");
    let config = fs::read_to_string(&path).expect("a config");
    let wider = config.replace("\"latent_channels\": 4", "\"latent_channels\": 8");
    assert_ne!(wider, config);
    fs::write(&path, wider).expect("a config");
    let error = on_nowhere(folder.path()).to_string();
    assert!(error.contains("encoder.conv_out.weight"), "{error}");
    assert!(error.contains("has shape"), "{error}");
}

#[test]
fn the_cpu_is_always_found() {
    let found = devices();
    assert_eq!(found.last().expect("a device").device, Device::Cpu);
    let chosen = choose("auto", &found).expect("auto");
    assert!(found.iter().any(|found| chosen.contains(&found.device)));
}
