//! Errors of the core as exceptions of `preheat.errors`.

use preheat_client::Error;
use pyo3::{prelude::*, types::PyDict};

/// Where the classes are: with several bases each, which only Python can say.
const MODULE: &str = "preheat.errors";

/// The exception for an error of the core.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let text = error.to_string();
    let fields = PyDict::new(py);
    let set = match error {
        Error::Config { field, reason } => {
            let field = python_name(field);
            return config(py, field, reason);
        }
        Error::BadSample { key, reason } | Error::NoSubstitute { key, reason, .. } => fields
            .set_item("key", key)
            .and_then(|()| fields.set_item("reason", reason)),
        Error::Call { code, .. } => fields.set_item("code", format!("{code:?}")),
        Error::StateMismatch { fields: differ } => fields.set_item("fields", differ),
        _ => Ok(()),
    };
    let class = match error {
        Error::Config { .. } => "ConfigError",
        Error::Dataset { .. } => "DatasetError",
        Error::BadSample { .. } | Error::NoSubstitute { .. } => "BadSampleError",
        Error::TooManyBad { .. } => "TooManyBadError",
        Error::Unreachable { .. } => "EndpointError",
        Error::Refused { .. } => "RefusedError",
        Error::UnknownModel { .. } => "UnknownModelError",
        Error::Model { .. } => "ModelError",
        Error::Call { .. } => "CallError",
        Error::StateMismatch { .. } => "StateMismatchError",
        Error::State(_) => "StateError",
        Error::Stopped(_) => "StoppedError",
        Error::Internal(_) => "InternalError",
    };
    match set {
        Ok(()) => make(py, class, &text, Some(&fields)),
        Err(error) => error,
    }
}

/// An option that makes no sense: its name, and what is wrong with it and what would be right.
pub(crate) fn config(py: Python<'_>, name: &str, reason: &str) -> PyErr {
    make(py, "ConfigError", &format!("`{name}` {reason}"), None)
}

/// An exception by the name of its class, with attributes.
pub(crate) fn make(
    py: Python<'_>,
    class: &str,
    text: &str,
    fields: Option<&Bound<'_, PyDict>>,
) -> PyErr {
    let made = || {
        let class = py.import(MODULE)?.getattr(class)?;
        class.call((text,), fields)
    };
    match made() {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// What an option of the core is called in Python, where it is not called the same.
fn python_name(field: &str) -> &str {
    match field {
        "global_batch" => "batch_size",
        "bucketing" => "buckets",
        "mix" => "dataset",
        "pace" => "fps",
        field => field.strip_prefix("security.").unwrap_or(field),
    }
}
