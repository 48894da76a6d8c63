//! Does a device compute what it should? Three small networks with seeded weights, that between them
//! use every kind of layer, and the latents that they must give.
//!
//! The goldens were made on the CPU in f32, by `PREHEAT_BLESS=1 cargo test -p preheat-models`; that
//! the CPU equals diffusers is what the parity tests show.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use serde_json::json;

use crate::{
    DType, Device, Error, PixelData, Pixels,
    config::Config,
    nn::Ops,
    open::{self, Build},
    weights::{Seeded, Weights},
};

/// Picture of the test: sides that are no multiple of any kernel's tile.
const SIDES: [usize; 2] = [72, 56];

/// A small network, and the latents that it gives for [`pixels`] of so many frames.
struct Network {
    name: &'static str,
    frames: usize,
    config: fn() -> Config,
    /// Little-endian f32.
    golden: &'static [u8],
}

const NETWORKS: [Network; 3] = [
    Network {
        name: "AutoencoderKL",
        frames: 1,
        config: kl,
        golden: include_bytes!("self_test/kl.f32"),
    },
    Network {
        name: "AutoencoderDC",
        frames: 1,
        config: dc,
        golden: include_bytes!("self_test/dc.f32"),
    },
    Network {
        name: "AutoencoderKLWan",
        frames: 5,
        config: wan,
        golden: include_bytes!("self_test/wan.f32"),
    },
];

impl Network {
    fn golden(&self) -> Vec<f32> {
        let (values, _) = self.golden.as_chunks();
        values.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }
}

/// Tests the device in this dtype, unless this process has done so before.
pub(crate) fn once<B: Ops>(device: &B::Device, build: Build) -> Result<(), Error> {
    static PASSED: Mutex<Vec<(Device, DType)>> = Mutex::new(Vec::new());
    // Held meanwhile: a second model for the device waits for the first one's test.
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let this = (build.device, build.dtype);
    if !passed.contains(&this) {
        run::<B>(device, build)?;
        passed.push(this);
    }
    Ok(())
}

fn run<B: Ops>(device: &B::Device, build: Build) -> Result<(), Error> {
    let fail = |found| Error::SelfTest {
        device: build.device,
        dtype: build.dtype,
        found,
    };
    for network in NETWORKS {
        // Backends panic where a driver or a compiler is missing or broken.
        let encode = AssertUnwindSafe(|| latents::<B>(&network, device.clone(), build));
        let latents = catch_unwind(encode).map_err(|panic| fail(message(&*panic)))??;
        let (distance, bound) = (distance(&latents, &network.golden()), bound(build.dtype));
        let name = network.name;
        if distance.is_nan() || distance > bound {
            return Err(fail(format!(
                "latents of a small {name} are {distance:.1e} from the golden (relative L2), and at \
                 most {bound:.0e} is rounding"
            )));
        }
    }
    Ok(())
}

/// Relative L2 that is rounding.
const fn bound(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-5,
        DType::F16 => 5e-3,
        DType::BF16 => 3e-2,
    }
}

fn latents<B: Ops>(network: &Network, device: B::Device, build: Build) -> Result<Vec<f32>, Error> {
    let config = (network.config)();
    let build = Build {
        tiling: false,
        slicing: false,
        ..build
    };
    let weights = Weights::seeded(Seeded::Uniform);
    let mut encoder = open::encoder::<B>(&config, weights, device, build)?;
    Ok(encoder.encode(&pixels(network.frames))?.mean)
}

/// Smooth, with an edge, a different one in each channel, and drifting from frame to frame.
fn pixels(frames: usize) -> Pixels {
    let [height, width] = SIDES;
    let value = |at: usize| {
        let (line, x, colour) = (at / 3 / width, at / 3 % width, at % 3);
        let (y, x) = (line % height, x + 5 * (line / height));
        let slope = (y * (2 + colour) + x * (4 - colour)) % 256;
        let edge = if x * (colour + 1) > y { 96 } else { 0 };
        (slope / 2 + edge) as u8
    };
    Pixels {
        batch: 1,
        frames,
        height,
        width,
        data: PixelData::Rgb8((0..frames * height * width * 3).map(value).collect()),
    }
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let square = |x: f64| x * x;
    let error: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(a - b))).sum();
    let norm: f64 = b.iter().map(|&b| square(f64::from(b))).sum();
    (error / norm).sqrt()
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it panicked ({})", text.unwrap_or("see the log"))
}

/// Group norm, attention, down-sampling that pads one side, a shortcut, SiLU.
fn kl() -> Config {
    config(json!({
        "_class_name": "AutoencoderKL",
        "block_out_channels": [32, 64, 96],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
        "norm_num_groups": 16,
    }))
}

/// Root-mean-square norm, depthwise and grouped convolutions, ReLU attention, gates, unshuffling.
fn dc() -> Config {
    config(json!({
        "_class_name": "AutoencoderDC",
        "latent_channels": 8,
        "attention_head_dim": 16,
        "encoder_block_types": ["ResBlock", "ResBlock", "EfficientViTBlock"],
        "encoder_block_out_channels": [32, 64, 64],
        "encoder_layers_per_block": [1, 1, 1],
        "encoder_qkv_multiscales": [[], [], [5]],
    }))
}

/// Convolutions over time, frames that fold into one, layers that look at single pixels.
fn wan() -> Config {
    config(json!({
        "_class_name": "AutoencoderKLWan",
        "base_dim": 32,
        "z_dim": 4,
        "dim_mult": [1, 2, 2],
        "num_res_blocks": 1,
        "temperal_downsample": [false, true],
        "is_residual": true,
        "patch_size": 2,
        "in_channels": 12,
        "latents_mean": [0.0, 0.0, 0.0, 0.0],
        "latents_std": [1.0, 1.0, 1.0, 1.0],
    }))
}

fn config(json: serde_json::Value) -> Config {
    Config::parse(&json, "the self-test".as_ref()).expect("these configs are ours")
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::PathBuf};

    use super::*;
    use crate::device::test;

    const BUILD: Build = Build {
        device: Device::Cpu,
        dtype: DType::F32,
        dtype_reason: "",
        untrained: true,
        tiling: false,
        slicing: false,
    };

    #[test]
    fn the_cpu_passes_in_every_dtype() {
        if env::var_os("PREHEAT_BLESS").is_some() {
            for (network, file) in NETWORKS.iter().zip(["kl.f32", "dc.f32", "wan.f32"]) {
                let latents = latents::<test::Backend>(network, test::Device, BUILD).unwrap();
                let bytes: Vec<u8> = latents.iter().flat_map(|v| v.to_le_bytes()).collect();
                let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/self_test");
                fs::write(dir.join(file), bytes).unwrap();
            }
            return;
        }
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            run::<test::Backend>(&test::Device, Build { dtype, ..BUILD }).unwrap();
        }
    }

    #[test]
    fn a_device_that_rounds_too_much_is_refused() {
        // bf16, held to what f32 must keep.
        let build = Build {
            dtype: DType::BF16,
            ..BUILD
        };
        for network in NETWORKS {
            let latents = latents::<test::Backend>(&network, test::Device, build).unwrap();
            let (name, golden) = (network.name, network.golden());
            let distance = distance(&latents, &golden);
            assert!(distance > 100.0 * bound(DType::F32), "{name}: {distance:e}");
            assert!(
                golden.iter().any(|v| v.abs() > 0.1),
                "{name}: a golden of nothing"
            );
        }
    }
}
