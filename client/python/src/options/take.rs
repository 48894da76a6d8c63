//! Options by name, with errors that name them.

use std::{cell::RefCell, path::PathBuf, time::Duration};

use pyo3::{conversion::FromPyObjectOwned, prelude::*, types::PyDict};

use crate::error::config;

/// Options that have not been taken yet.
pub(crate) struct Options<'py> {
    rest: Bound<'py, PyDict>,
    /// What comes before a name in messages, as in `cache.`.
    within: String,
    seen: RefCell<Vec<&'static str>>,
}

impl<'py> Options<'py> {
    pub(crate) fn new(given: &Bound<'py, PyDict>) -> PyResult<Self> {
        Self::within(given, String::new())
    }

    fn within(given: &Bound<'py, PyDict>, within: String) -> PyResult<Self> {
        Ok(Self {
            rest: given.copy()?,
            within,
            seen: RefCell::default(),
        })
    }

    pub(crate) fn py(&self) -> Python<'py> {
        self.rest.py()
    }

    /// An option, if it is given and not `None`.
    fn take(&self, name: &'static str) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.seen.borrow_mut().push(name);
        let Some(value) = self.rest.get_item(name)? else {
            return Ok(None);
        };
        self.rest.del_item(name)?;
        Ok((!value.is_none()).then_some(value))
    }

    /// An option of a type, where `must` is what it must be, in words.
    pub(crate) fn get<T: FromPyObjectOwned<'py>>(
        &self,
        name: &'static str,
        must: &str,
    ) -> PyResult<Option<T>> {
        self.read(name, |value| extract(value, must))
    }

    /// An option that is read by a function, which says in words what is wrong and what would be
    /// right.
    pub(crate) fn read<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Bound<'py, PyAny>) -> Result<T, String>,
    ) -> PyResult<Option<T>> {
        let Some(value) = self.take(name)? else {
            return Ok(None);
        };
        read(&value)
            .map(Some)
            .map_err(|reason| self.refuse(name, &reason))
    }

    /// What is wrong with an option.
    pub(crate) fn refuse(&self, name: &str, reason: &str) -> PyErr {
        config(self.py(), &format!("{}{name}", self.within), reason)
    }

    /// A path: a string or anything with `__fspath__`.
    pub(crate) fn path(&self, name: &'static str) -> PyResult<Option<PathBuf>> {
        self.get(name, "a path")
    }

    /// A time in seconds.
    pub(crate) fn seconds(&self, name: &'static str) -> PyResult<Option<Duration>> {
        self.read(name, |value| {
            let seconds: f64 = extract(value, "seconds, a number above 0")?;
            let time = Duration::try_from_secs_f64(seconds);
            time.map_err(|_| format!("is {seconds}, must be seconds, above 0"))
        })
    }

    /// A dictionary of options.
    pub(crate) fn nested(&self, name: &'static str) -> PyResult<Option<Self>> {
        let given = self.get::<Bound<'py, PyDict>>(name, "a dictionary")?;
        let nested = |given| Self::within(&given, format!("{}{name}.", self.within));
        given.map(nested).transpose()
    }

    /// Options of each of several datasets, in their order.
    pub(crate) fn each(&self, name: &'static str) -> PyResult<Option<Vec<(String, Self)>>> {
        let Some(given) = self.get::<Bound<'py, PyDict>>(name, "a dictionary")? else {
            return Ok(None);
        };
        let each = given.iter().map(|(name, options)| {
            let name: String = name.extract()?;
            let within = format!("dataset[{name:?}].");
            Ok((name, Self::within(options.cast()?, within)?))
        });
        each.collect::<PyResult<_>>().map(Some)
    }

    /// All of them, by any name, as texts.
    pub(crate) fn texts(&self) -> PyResult<Vec<(String, String)>> {
        let texts = self.rest.iter().map(|(name, value)| {
            let text = value.str()?.to_string();
            Ok((name.extract()?, text))
        });
        texts.collect()
    }

    /// Refuses what nobody has asked for.
    pub(crate) fn all_taken(&self) -> PyResult<()> {
        let Some(name) = self.rest.keys().iter().next() else {
            return Ok(());
        };
        let known = self.seen.borrow().join(", ");
        let reason = format!("is not known; there are {known}");
        Err(self.refuse(&name.to_string(), &reason))
    }
}

/// A value of a type, or in words what it is and what it must be.
pub(super) fn extract<'py, T: FromPyObjectOwned<'py>>(
    value: &Bound<'py, PyAny>,
    must: &str,
) -> Result<T, String> {
    value.extract().map_err(|_| unfit(value, must))
}

pub(super) fn unfit(value: &Bound<'_, PyAny>, must: &str) -> String {
    /// Longest value that is shown whole.
    const LONGEST: usize = 80;
    let shown = value
        .repr()
        .map_or_else(|_| "?".into(), |repr| repr.to_string());
    let short: String = shown.chars().take(LONGEST).collect();
    let dots = if short.len() < shown.len() { "…" } else { "" };
    format!("is {short}{dots}, must be {must}")
}
