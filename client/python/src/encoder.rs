//! One-off calls.

use std::{
    mem, process,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use preheat_client::{self as client, EncoderConfig, Error, Keys, Picture, Request, plan::Size};
use pyo3::{
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyDict, PyTuple},
};

use crate::{
    error::{config, make, raise},
    loader::check_process,
    memory::Memory,
    notify,
    options::{Options, crop, encoder},
    wait::{SLICE, aside, sliced},
};

type Shared = Arc<Mutex<Option<Arc<client::Encoder>>>>;

/// Encodes images. `preheat.Encoder` is made of it.
#[pyclass(module = "preheat._core", frozen)]
pub(crate) struct Encoder {
    inner: Shared,
    process: u32,
}

/// Width and height of the output images, crop, and what draws are made from: seed, epoch, and ids of
/// samples.
type How<'py> = (
    Option<(u32, u32)>,
    Bound<'py, PyAny>,
    u64,
    u64,
    Option<Vec<u64>>,
);

/// A request under way.
#[pyclass(module = "preheat._core", frozen)]
pub(crate) struct Pending {
    /// Taken when the answer is.
    inner: Mutex<Option<client::Pending>>,
    notice: Option<notify::Notice>,
    process: u32,
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let inner = mem::take(&mut self.inner);
        if self.process != process::id() {
            // As for loaders.
            mem::forget(inner);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.process != process::id() {
            let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
            mem::forget(inner.take());
        }
    }
}

#[pymethods]
impl Encoder {
    /// Finds the model.
    #[new]
    fn new(py: Python<'_>, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let options = Options::new(options)?;
        let config: EncoderConfig = encoder(&options)?;
        options.all_taken()?;
        let encoder = aside(py, || client::Encoder::new(config))?;
        Ok(Self {
            inner: Arc::new(Mutex::new(Some(Arc::new(encoder)))),
            process: process::id(),
        })
    }

    /// Begins to encode: files as bytes, or (height, width, RGB pixels). With `notify` a file descriptor
    /// becomes readable once the answer is there.
    fn submit(
        &self,
        py: Python<'_>,
        pictures: Vec<Bound<'_, PyAny>>,
        how: How<'_>,
        notify: bool,
    ) -> PyResult<Pending> {
        let encoder = self.get(py)?;
        let pictures = pictures.iter().map(picture).collect::<PyResult<_>>()?;
        let (size, crop_given, seed, epoch, ids) = how;
        let crop = crop(&crop_given).map_err(|reason| config(py, "crop", &reason))?;
        let request = Request {
            pictures,
            size: size.map(|(width, height)| Size::new(width, height)),
            crop,
            keys: Keys { seed, epoch, ids },
        };
        let (notice, sender) = match notify {
            true => notify::pair().map(|(notice, sender)| (Some(notice), Some(sender)))?,
            false => (None, None),
        };
        let done = move || {
            if let Some(sender) = sender {
                sender.send();
            }
        };
        let pending = py.detach(|| encoder.submit(request, done));
        Ok(Pending {
            inner: Mutex::new(Some(pending.map_err(|error| raise(py, &error))?)),
            notice,
            process: process::id(),
        })
    }

    /// The model, as its replica describes it.
    fn model<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        crate::stats::model(py, self.get(py)?.model())
    }

    /// Cancels everything under way. A second time it does nothing.
    fn close(&self) {
        if self.process == process::id() {
            drop(self.lock().take());
        }
    }
}

impl Encoder {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<client::Encoder>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, py: Python<'_>) -> PyResult<Arc<client::Encoder>> {
        check_process(py, self.process, "encoder")?;
        let closed = || {
            make(
                py,
                "ClosedError",
                "the encoder is closed: make another one",
                None,
            )
        };
        self.lock().clone().ok_or_else(closed)
    }
}

/// What is passed for one image. The bytes stay Python's.
fn picture(given: &Bound<'_, PyAny>) -> PyResult<Picture> {
    let Ok(raw) = given.cast::<PyTuple>() else {
        return Ok(Picture::File(bytes(given)?));
    };
    let (height, width): (u32, u32) = (raw.get_item(0)?.extract()?, raw.get_item(1)?.extract()?);
    Ok(Picture::Rgb8 {
        size: Size::new(width, height),
        pixels: bytes(&raw.get_item(2)?)?,
    })
}

fn bytes(given: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    Ok(Bytes::from_owner(given.extract::<PyBackedBytes>()?))
}

/// The memory of the latents, their type, the size of the images, and the bad ones by number with
/// reasons.
type Answer = (Py<Memory>, &'static str, (u32, u32), Vec<(usize, String)>);

#[pymethods]
impl Pending {
    /// Waits for the answer, which can be taken once.
    fn wait(&self, py: Python<'_>) -> PyResult<Answer> {
        check_process(py, self.process, "request")?;
        let encoded = sliced(py, || {
            let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(pending) = inner.as_ref() else {
                return Err(Error::Internal("a request that was cancelled".into()));
            };
            pending.wait(SLICE).transpose()
        })?;
        let dtype = crate::batch::name(encoded.latents.dtype);
        let size = (encoded.size.width, encoded.size.height);
        let memory = Py::new(py, Memory::new(encoded.latents))?;
        Ok((memory, dtype, size, encoded.bad))
    }

    /// What becomes readable, where that was asked for and the system has it.
    fn fileno(&self) -> Option<i32> {
        self.notice.as_ref().map(notify::Notice::fileno)
    }

    /// Nobody waits for it any more.
    fn cancel(&self) {
        if self.process == process::id() {
            drop(
                self.inner
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            );
        }
    }
}
