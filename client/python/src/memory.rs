//! The bytes of a batch's latents, as NumPy and torch see them: where they were received.

use bytes::{Buf, Bytes, BytesMut};
use preheat_client::{DType, Latents};
use pyo3::{
    prelude::*,
    types::{PyDict, PyTuple},
};

/// Of every copy that is made: a cache line, and what the widest vector instructions like.
const ALIGN: usize = 64;

/// Owns the bytes of one tensor and says where they are (`__array_interface__`); arrays that are made
/// of it keep it alive.
///
/// Whoever has such an array may write to it, so the bytes must be nobody else's: of a buffer that is
/// shared with others (the latent cache that still writes them, a batch that will be delivered again)
/// it holds a copy. That is why no line here is unsafe, and why none elsewhere has to be: from its
/// creation on nothing in Rust reads or writes the bytes behind `data`, which is only held and dropped.
#[pyclass(module = "preheat._core", frozen)]
pub(crate) struct Memory {
    /// Never looked into again.
    _data: BytesMut,
    address: usize,
    bytes: usize,
    shape: Vec<u32>,
    dtype: DType,
    /// Whether the bytes are where they were received.
    #[pyo3(get)]
    copied: bool,
}

impl Memory {
    pub(crate) fn new(latents: Latents) -> Self {
        let Latents { dtype, shape, data } = latents;
        let bytes = data.len();
        let (mut data, copied) = owned(data, dtype.size());
        Self {
            // Exposed, because it is handed to code that the compiler does not see.
            address: data.as_mut_ptr().expose_provenance(),
            _data: data,
            bytes,
            shape,
            dtype,
            copied,
        }
    }
}

/// The bytes, in place if they are nobody else's and lie where elements may lie.
fn owned(data: Bytes, element: usize) -> (BytesMut, bool) {
    let aligned = data.as_ptr().addr().is_multiple_of(element);
    match data.try_into_mut() {
        Ok(data) if aligned => (data, false),
        Ok(data) => (copy(&data), true),
        Err(data) => (copy(&data), true),
    }
}

fn copy(data: &[u8]) -> BytesMut {
    let mut copy = BytesMut::with_capacity(data.len() + ALIGN);
    let start = copy.as_ptr().addr();
    let skip = start.next_multiple_of(ALIGN) - start;
    copy.resize(skip, 0);
    copy.extend_from_slice(data);
    copy.advance(skip);
    copy
}

#[pymethods]
impl Memory {
    /// How NumPy makes an array of it without a copy. bfloat16, which NumPy does not know, as `<u2`.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let interface = PyDict::new(py);
        interface.set_item("shape", PyTuple::new(py, &self.shape)?)?;
        interface.set_item(
            "typestr",
            match self.dtype {
                DType::F32 => "<f4",
                DType::F16 => "<f2",
                DType::BF16 => "<u2",
            },
        )?;
        interface.set_item("data", (self.address, false))?;
        interface.set_item("version", 3)?;
        Ok(interface)
    }

    /// Bytes.
    #[getter]
    fn nbytes(&self) -> usize {
        self.bytes
    }
}
