//! NVIDIA GPUs: which are there, and what they compute best in.

use std::{
    env, panic,
    path::Path,
    sync::{Arc, OnceLock},
    thread,
};

use burn_cuda::CudaDevice;
use cubecl::cuda::CudaRuntime;
use cudarc::driver::CudaContext;

use super::cube::Gpu;
use crate::{DType, Device, Error, Found};

/// burn's backend for NVIDIA GPUs.
pub(super) type Cuda = Gpu<CudaRuntime>;

/// Compute capability from which tensor cores take bf16.
const BF16: (i32, i32) = (8, 0);
/// And f16.
const F16: (i32, i32) = (7, 0);

/// The name of the thread that asks, by which its panics are known.
const ASKER: &str = "cuda-probe";

/// Where the headers are looked for that kernels are compiled with, where `CUDA_PATH` does not say.
const HEADERS: [&str; 3] = ["/usr/local/cuda", "/opt/cuda", "/usr"];

/// A GPU as its driver describes it.
#[derive(Clone, Debug)]
struct Card {
    name: String,
    capability: (i32, i32),
    bytes: usize,
}

/// The GPUs that the driver lists.
pub(super) fn find() -> Vec<Found> {
    let found = |(index, card): (usize, &Card)| Found {
        device: Device::Cuda(index),
        name: format!(
            "{}, compute capability {}.{}, {:.0} GiB",
            card.name,
            card.capability.0,
            card.capability.1,
            card.bytes as f64 / f64::from(1 << 30)
        ),
        automatic: true,
    };
    cards().iter().enumerate().map(found).collect()
}

/// The GPU of this number, if a model can run on it.
pub(super) fn device(index: usize) -> Result<CudaDevice, Error> {
    let refuse = |reason: String| Error::UnknownDevice {
        name: Device::Cuda(index).to_string(),
        reason,
    };
    match cards().len() {
        0 => Err(refuse(
            "no NVIDIA GPU with a driver (libcuda) was found: check `nvidia-smi`, or use --device cpu"
                .to_owned(),
        )),
        count if index >= count => Err(refuse(format!(
            "there are {count} NVIDIA GPUs, counted from 0"
        ))),
        _ if !has_headers() => Err(refuse(format!(
            "kernels are compiled on this machine, by NVRTC and with CUDA's headers, and no \
             include/cuda_fp16.h is in $CUDA_PATH or {}: install the CUDA toolkit (its runtime \
             headers and NVRTC are enough), and set CUDA_PATH",
            HEADERS.join(", ")
        ))),
        _ => Ok(CudaDevice::new(index)),
    }
}

/// What a model computes in on the GPU of this number, and why.
pub(super) fn default_dtype(index: usize) -> (DType, &'static str) {
    let capability = cards().get(index).map_or((0, 0), |card| card.capability);
    match () {
        () if capability >= BF16 => (DType::BF16, "tensor cores take it from capability 8.0 on"),
        () if capability >= F16 => (DType::F16, "tensor cores take it, and not bf16, before 8.0"),
        () => (DType::F32, "no tensor cores before capability 7.0"),
    }
}

/// Asked once a process: GPUs do not come and go.
fn cards() -> &'static [Card] {
    static CARDS: OnceLock<Vec<Card>> = OnceLock::new();
    CARDS.get_or_init(|| {
        let asker = thread::Builder::new().name(ASKER.to_owned());
        quietly(|| {
            let ask = asker.spawn(ask).ok()?;
            ask.join().ok()
        })
        .unwrap_or_default()
    })
}

/// Panics where there is no driver: its library is loaded at the first call.
fn ask() -> Vec<Card> {
    let count = CudaContext::device_count().unwrap_or(0);
    let card = |index| {
        let context = CudaContext::new(index).ok()?;
        Some(Card {
            name: context.name().ok()?,
            capability: context.compute_capability().ok()?,
            bytes: context.total_mem().ok()?,
        })
    };
    (0..usize::try_from(count).unwrap_or(0))
        .map_while(card)
        .collect()
}

/// Runs `f` with no word about panics of the asking thread: that there is no GPU is no news.
fn quietly<T>(f: impl FnOnce() -> T) -> T {
    let before = Arc::new(panic::take_hook());
    let loud = Arc::clone(&before);
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some(ASKER) {
            loud(info);
        }
    }));
    let result = f();
    panic::set_hook(Box::new(move |info| before(info)));
    result
}

fn has_headers() -> bool {
    let has = |path: &Path| path.join("include/cuda_fp16.h").exists();
    match env::var_os("CUDA_PATH") {
        Some(path) => has(Path::new(&path)),
        None => HEADERS.iter().any(|path| has(Path::new(path))),
    }
}
