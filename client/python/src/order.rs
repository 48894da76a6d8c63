//! The order of an epoch, for datasets that the core does not know.

use preheat_client::plan::{Permutation, Purpose, draw};
use pyo3::{exceptions::PyIndexError, prelude::*};

/// A permutation of the numbers below `len()` by seed and epoch, computed and never stored; the same with
/// every release of Python and NumPy.
#[pyclass(module = "preheat._core", frozen)]
pub(crate) struct Order {
    permutation: Permutation,
    length: u64,
}

#[pymethods]
impl Order {
    #[new]
    fn new(length: u64, seed: u64, epoch: u64) -> Self {
        let key = draw(seed, epoch, 0, Purpose::Order);
        Self {
            permutation: Permutation::new(length, key),
            length,
        }
    }

    fn __len__(&self) -> usize {
        self.length as usize
    }

    fn __getitem__(&self, at: u64) -> PyResult<u64> {
        if at < self.length {
            return Ok(self.permutation.get(at));
        }
        Err(PyIndexError::new_err(format!("{at} of {}", self.length)))
    }
}
