//! One rank's share of a step.

use std::sync::Arc;

use preheat_client::{self as client, ClipInfo, DType, SampleInfo};
use pyo3::{
    prelude::*,
    types::{PyByteArray, PyBytes, PyDict, PyList, PyString, PyTuple},
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
    /// Frames of the clips; 1 of images.
    #[pyo3(get)]
    frames: u32,
    /// Of the latents: samples, channels, in a run of clips frames, height, width.
    shape: Vec<u32>,
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
        Ok(Self {
            epoch,
            step,
            replayed,
            bucket: (bucket.width, bucket.height),
            frames: bucket.frames,
            shape: latents.shape.clone(),
            dtype: latents.dtype,
            received_at: latents.data.as_ptr().addr(),
            memory: Py::new(py, Memory::new(latents))?,
            samples,
            sources: sources.clone_ref(py),
        })
    }

    /// A number of each sample, as memory that NumPy makes an array of: many objects cost more than
    /// all the rest.
    fn packed<'py, const N: usize>(
        &self,
        py: Python<'py>,
        of: impl Fn(&SampleInfo) -> [u8; N],
    ) -> Bound<'py, PyByteArray> {
        let bytes: Vec<u8> = self.samples.iter().flat_map(of).collect();
        PyByteArray::new(py, &bytes)
    }
}

impl Batch {
    /// A number of each frame of each sample.
    fn of_frames<'py>(
        &self,
        py: Python<'py>,
        of: impl Fn(Option<&ClipInfo>, usize) -> [u8; 8],
    ) -> Bound<'py, PyByteArray> {
        let samples = self.samples.iter().map(|sample| sample.clip.as_ref());
        let bytes = samples.flat_map(|clip| {
            let frames = 0..self.frames as usize;
            let of = &of;
            frames.flat_map(move |at| of(clip, at))
        });
        PyByteArray::new(py, &bytes.collect::<Vec<u8>>())
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

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.shape)
    }

    /// Frames of the video by number, for each sample as many as the clips have; int64, -1 of an image.
    fn clip_frames<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        self.of_frames(py, |clip, at| {
            let frame = clip.and_then(|clip| clip.frames.get(at).copied());
            frame.map_or(-1, i64::from).to_ne_bytes()
        })
    }

    /// When they are shown, in seconds of the video's clock; float64, NaN of an image.
    fn clip_times<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        self.of_frames(py, |clip, at| {
            let seconds = clip.and_then(|clip| {
                let (seconds, ticks) = clip.time_base;
                let time = *clip.times.get(at)? as f64;
                Some(time * f64::from(seconds) / f64::from(ticks))
            });
            seconds.unwrap_or(f64::NAN).to_ne_bytes()
        })
    }

    /// When each clip begins, likewise.
    fn clip_starts<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        self.packed(py, |sample| {
            let clip = sample.clip.as_ref();
            clip.map_or(f64::NAN, |clip| clip.start.as_f64())
                .to_ne_bytes()
        })
    }

    /// `float32`, `float16` or `bfloat16`.
    #[getter]
    fn dtype(&self) -> &'static str {
        name(self.dtype)
    }

    /// int64.
    fn ids<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        self.packed(py, |sample| sample.id.to_ne_bytes())
    }

    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.samples.iter().map(|sample| &sample.key))
    }

    fn sources<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let names = self.sources.bind(py);
        let of = |sample: &SampleInfo| names.get_item(sample.source);
        self.samples.iter().map(of).collect()
    }

    /// bool, as all that are so below.
    fn padding<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        self.packed(py, |sample| [sample.padding.into()])
    }

    fn valid<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        self.packed(py, |sample| [sample.valid.into()])
    }

    fn substitute_of(&self) -> Vec<Option<u64>> {
        let of = |sample: &SampleInfo| sample.substitute_of;
        self.samples.iter().map(of).collect()
    }

    fn caption_dropped<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        self.packed(py, |sample| [sample.caption_dropped.into()])
    }

    /// uint64.
    fn seeds<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        self.packed(py, |sample| sample.seed.to_ne_bytes())
    }

    fn flipped<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        self.packed(py, |sample| [sample.transform.flip.into()])
    }

    /// For each sample: original height and width, crop top and left, target height and width; int64.
    fn micro_conditioning<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        self.packed::<48>(py, |sample| {
            let told = &sample.micro_conditioning;
            let pairs = [told.original_size, told.crop_top_left, told.target_size];
            let mut bytes = [0; 48];
            for (place, number) in bytes.as_chunks_mut().0.iter_mut().zip(pairs.as_flattened()) {
                *place = i64::from(*number).to_ne_bytes();
            }
            bytes
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

    /// The text of the first of these parts that a sample has: an empty one where it is to be dropped,
    /// `None` where there is none of them.
    fn captions<'py>(
        &self,
        py: Python<'py>,
        names: Vec<String>,
    ) -> Vec<Option<Bound<'py, PyString>>> {
        let caption = |sample: &SampleInfo| {
            if sample.caption_dropped {
                return Some(PyString::new(py, ""));
            }
            let part = |name: &String| {
                let mut parts = sample.parts.iter();
                parts.find(|(known, _): &&(Arc<str>, _)| **known == **name)
            };
            let (_, content) = names.iter().find_map(part)?;
            Some(PyString::new(py, &String::from_utf8_lossy(content)))
        };
        self.samples.iter().map(caption).collect()
    }
}
