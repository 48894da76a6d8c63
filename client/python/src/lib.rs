//! The loader inside a Python trainer: the module `preheat._core`, which the package `preheat` wraps.
//!
//! Everything is done by `preheat_client`; here is what Python sees of it. Threads of the loader never
//! take the GIL: calls that wait release it, look for signals now and then, and take what the threads
//! have put together.

mod batch;
mod encoder;
mod error;
mod loader;
mod memory;
mod notify;
mod options;
mod order;
mod stats;
mod wait;

use pyo3::prelude::*;

/// The core of the package `preheat`. Use the package: this module may change with every release.
#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<loader::Loader>()?;
    m.add_class::<batch::Batch>()?;
    m.add_class::<memory::Memory>()?;
    m.add_class::<encoder::Encoder>()?;
    m.add_class::<encoder::Pending>()?;
    m.add_class::<order::Order>()?;
    m.add_function(wrap_pyfunction!(options::check, m)?)?;
    m.add_function(wrap_pyfunction!(options::defaults, m)?)?;
    Ok(())
}
