//! Encoder tensors by name: from safetensors files, or made in code.
//!
//! Names are diffusers' current ones; those of old files are translated when the file is opened.

mod files;
mod seeded;

use std::{collections::BTreeMap, path::Path};

use blake3::{Hash, Hasher};

pub(crate) use seeded::Seeded;

use crate::Error;
use files::Files;

/// A source of tensors that remembers what was taken from it.
#[derive(Debug)]
pub(crate) struct Weights {
    origin: Origin,
    /// What was taken, and the hash of its shape and values.
    taken: BTreeMap<String, Hash>,
}

#[derive(Debug)]
enum Origin {
    Files(Files),
    Seeded(Seeded),
}

impl Weights {
    /// The weights beside `dir/config.json`, where diffusers would look for them.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self {
            origin: Origin::Files(Files::open(dir)?),
            taken: BTreeMap::new(),
        })
    }

    /// Weights made in code.
    pub(crate) fn seeded(seeded: Seeded) -> Self {
        Self {
            origin: Origin::Seeded(seeded),
            taken: BTreeMap::new(),
        }
    }

    /// The tensor `name`, which must have this shape, in f32.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let values = match &mut self.origin {
            Origin::Files(files) => files.read(name, &[shape])?,
            Origin::Seeded(seeded) => seeded.make(name, shape),
        };
        self.note(name, shape, &values);
        Ok(values)
    }

    /// The weight `name` of a linear layer, `[n, n]`, which old files store as `[n, n, 1, 1]`.
    pub(crate) fn take_linear(&mut self, name: &str, n: usize) -> Result<Vec<f32>, Error> {
        let values = match &mut self.origin {
            Origin::Files(files) => files.read(name, &[&[n, n], &[n, n, 1, 1]])?,
            Origin::Seeded(seeded) => seeded.make(name, &[n, n]),
        };
        self.note(name, &[n, n], &values);
        Ok(values)
    }

    /// The hash of all that was taken: names, shapes and values, in the order of the names.
    ///
    /// # Errors
    /// Encoder tensors that nobody took: the file and its config do not belong together.
    pub(crate) fn finish(self) -> Result<Hash, Error> {
        if let Origin::Files(files) = &self.origin {
            files.expect_all_taken(|name| self.taken.contains_key(name))?;
        }
        let mut hasher = Hasher::new();
        for (name, hash) in &self.taken {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(hash.as_bytes());
        }
        Ok(hasher.finalize())
    }

    fn note(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let mut hasher = Hasher::new();
        hasher.update(&(shape.len() as u64).to_le_bytes());
        for &side in shape {
            hasher.update(&(side as u64).to_le_bytes());
        }
        let mut bytes = Vec::with_capacity(values.len() * 4);
        crate::DType::F32.write(values, &mut bytes);
        hasher.update(&bytes);
        self.taken.insert(name.to_owned(), hasher.finalize());
    }
}
