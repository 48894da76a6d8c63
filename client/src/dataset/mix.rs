//! Several datasets as one: sources with names and shares.

use std::collections::BTreeSet;

use super::Source;
use crate::{
    error::Error,
    plan::{Share, Shares},
};

/// Most sources of a [`Mix`].
pub const MAX_SOURCES: usize = 1024;
/// Bytes of a source's name.
pub const MAX_SOURCE_NAME: usize = 64;

/// Several datasets as one. Ids go through all of them in this order, and keys begin with the source's
/// name: `NAME/KEY`.
#[derive(Clone, Debug, Default)]
pub struct Mix {
    /// The datasets.
    pub sources: Vec<MixSource>,
    /// Deliveries of an epoch, before [`Config::repeats`](crate::Config::repeats), where shares are
    /// weights; `None` for as many as samples take part.
    pub epoch_samples: Option<u64>,
}

/// One dataset of a [`Mix`].
#[derive(Clone, Debug)]
pub struct MixSource {
    /// What it is called: in keys, reports and errors. Without `/`.
    pub name: String,
    /// Where it is, and where its index.
    pub source: Source,
    /// How much of an epoch comes from it.
    pub share: Share,
}

impl Mix {
    /// Of these sources, with epochs as long as they come to.
    pub fn new(sources: impl IntoIterator<Item = MixSource>) -> Self {
        Self {
            sources: sources.into_iter().collect(),
            epoch_samples: None,
        }
    }

    /// Checks what can be checked without opening anything but the shares, which are the plan's.
    ///
    /// # Errors
    /// [`Error::Config`] for `mix`.
    pub fn check(&self) -> Result<(), Error> {
        let count = self.sources.len();
        if !(1..=MAX_SOURCES).contains(&count) {
            let reason = format!("has {count} sources, must have 1..={MAX_SOURCES}");
            return Err(Error::config("mix", reason));
        }
        let mut names = BTreeSet::new();
        for MixSource { name, .. } in &self.sources {
            let odd = |c: char| c == '/' || c.is_control();
            if name.is_empty() || name.len() > MAX_SOURCE_NAME || name.contains(odd) {
                let reason = format!(
                    "has a source named {name:?}: names begin the keys of samples, and are 1 to \
                     {MAX_SOURCE_NAME} bytes without `/` or control characters"
                );
                return Err(Error::config("mix", reason));
            }
            if !names.insert(name) {
                let reason = format!("has two sources named `{name}`: rename one");
                return Err(Error::config("mix", reason));
            }
        }
        Ok(())
    }

    /// The shares, for a plan.
    pub fn shares(&self) -> Shares {
        Shares {
            shares: self.sources.iter().map(|source| source.share).collect(),
            epoch_samples: self.epoch_samples,
        }
    }
}

impl MixSource {
    /// A dataset by name, place and share.
    pub fn new(name: impl Into<String>, source: impl Into<Source>, share: Share) -> Self {
        Self {
            name: name.into(),
            source: source.into(),
            share,
        }
    }
}

/// One dataset or several.
#[derive(Clone, Debug)]
pub enum Sources {
    /// One.
    One(Source),
    /// Several.
    Mix(Mix),
}

impl<T: Into<Source>> From<T> for Sources {
    fn from(source: T) -> Self {
        Self::One(source.into())
    }
}

impl From<Mix> for Sources {
    fn from(mix: Mix) -> Self {
        Self::Mix(mix)
    }
}

impl From<&Mix> for Sources {
    fn from(mix: &Mix) -> Self {
        Self::Mix(mix.clone())
    }
}
