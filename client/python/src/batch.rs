//! One rank's share of a step.

use std::sync::Arc;

use preheat_client::{self as client, DType, SampleInfo};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyList, PyTuple},
};

use crate::memory::Memory;

/// A batch as the core delivers it. Everything about its samples is made into Python objects when it
/// is asked for.
#[pyclass(module = "preheat._core", frozen)]
pub(crate) struct Batch {
    #[pyo3(get)]
    epoch: u64,
    #[pyo3(get)]
    step: u64,
    #[pyo3(get)]
    replayed: bool,
    /// Width and height of the images that were encoded, in pixels.
    #[pyo3(get)]
    bucket: (u32, u32),
    /// Of the latents: samples, channels, height, width.
    #[pyo3(get)]
    shape: (u32, u32, u32, u32),
    /// The bytes of the latents.
    #[pyo3(get)]
    memory: Py<Memory>,
    /// Where those bytes were received.
    #[pyo3(get)]
    received_at: usize,
    dtype: DType,
    samples: Vec<SampleInfo>,
    /// What the datasets are called that the samples are of.
    sources: Py<PyTuple>,
}

impl Batch {
    pub(crate) fn new(
        py: Python<'_>,
        batch: client::Batch,
        sources: &Py<PyTuple>,
    ) -> PyResult<Self> {
        let client::Batch {
            epoch,
            step,
            bucket,
            samples,
            latents,
            replayed,
        } = batch;
        let [n, c, h, w] = latents.shape;
        Ok(Self {
            epoch,
            step,
            replayed,
            bucket: (bucket.width, bucket.height),
            shape: (n, c, h, w),
            dtype: latents.dtype,
            received_at: latents.data.as_ptr().addr(),
            memory: Py::new(py, Memory::new(latents))?,
            samples,
            sources: sources.clone_ref(py),
        })
    }

    fn each<T>(&self, of: impl Fn(&SampleInfo) -> T) -> Vec<T> {
        self.samples.iter().map(of).collect()
    }
}

/// What NumPy and torch call it.
pub(crate) fn name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float32",
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
    }
}

#[pymethods]
impl Batch {
    fn __len__(&self) -> usize {
        self.samples.len()
    }

    /// `float32`, `float16` or `bfloat16`.
    #[getter]
    fn dtype(&self) -> &'static str {
        name(self.dtype)
    }

    fn ids(&self) -> Vec<u64> {
        self.each(|sample| sample.id)
    }

    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.samples.iter().map(|sample| &sample.key))
    }

    fn sources<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let names = self.sources.bind(py);
        let of = |sample: &SampleInfo| names.get_item(sample.source);
        self.samples.iter().map(of).collect()
    }

    fn padding(&self) -> Vec<bool> {
        self.each(|sample| sample.padding)
    }

    fn valid(&self) -> Vec<bool> {
        self.each(|sample| sample.valid)
    }

    fn substitute_of(&self) -> Vec<Option<u64>> {
        self.each(|sample| sample.substitute_of)
    }

    fn caption_dropped(&self) -> Vec<bool> {
        self.each(|sample| sample.caption_dropped)
    }

    fn seeds(&self) -> Vec<u64> {
        self.each(|sample| sample.seed)
    }

    fn flipped(&self) -> Vec<bool> {
        self.each(|sample| sample.transform.flip)
    }

    /// For each sample: original height and width, crop top and left, target height and width.
    fn micro_conditioning(&self) -> Vec<[u32; 6]> {
        self.each(|sample| {
            let told = &sample.micro_conditioning;
            let [height, width] = told.original_size;
            let [top, left] = told.crop_top_left;
            let [out_height, out_width] = told.target_size;
            [height, width, top, left, out_height, out_width]
        })
    }

    /// What travels with each sample: content by name.
    fn parts<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let parts = self.samples.iter().map(|sample| {
            let parts = PyDict::new(py);
            for (name, content) in &sample.parts {
                parts.set_item(&**name, PyBytes::new(py, content))?;
            }
            Ok(parts)
        });
        parts.collect()
    }

    /// The text of the first of these parts that a sample has; `None` where it has none of them.
    fn texts(&self, names: Vec<String>) -> Vec<Option<String>> {
        self.each(|sample| {
            let part = |name: &String| {
                let mut parts = sample.parts.iter();
                parts.find(|(known, _): &&(Arc<str>, _)| **known == **name)
            };
            let (_, content) = names.iter().find_map(part)?;
            Some(String::from_utf8_lossy(content).into_owned())
        })
    }
}
