//! The goldens of `tests/parity`, for unit tests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use half::f16;
use safetensors::{Dtype, SafeTensors};

/// Tensors in f32 by name, with their shapes.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The folder of a golden, such as `kl-plain/a`.
pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/parity")
        .join(name)
}

/// What a file of F32 or F16 holds.
pub(crate) fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).expect("a golden");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F16 => {
                let values = data.as_chunks().0.iter();
                values.map(|&b| f16::from_le_bytes(b).to_f32()).collect()
            }
            Dtype::F32 => {
                let values = data.as_chunks().0.iter();
                values.map(|&b| f32::from_le_bytes(b)).collect()
            }
            other => panic!("{name} is {other:?}"),
        };
        (name, (view.shape().to_vec(), values))
    });
    tensors.collect()
}

/// Relative L2 distance of `values` from `expected`.
pub(crate) fn distance<A, B>(values: &[A], expected: &[B]) -> f64
where
    A: Copy + Into<f64>,
    B: Copy + Into<f64>,
{
    assert_eq!(values.len(), expected.len(), "number of values");
    let square = |x: f64| x * x;
    let pairs = values.iter().zip(expected);
    let error: f64 = pairs.map(|(&a, &b)| square(a.into() - b.into())).sum();
    let norm: f64 = expected.iter().map(|&b| square(b.into())).sum();
    (error / norm).sqrt()
}
