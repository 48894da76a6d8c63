//! Encoder tensors by name: from safetensors files, or made in code.
//!
//! Names are diffusers' current ones; those of old files are translated when the file is opened.

mod files;
mod header;
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
    /// Whether values are zeros, to see whether all is there in the right shapes.
    dry: bool,
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
            dry: false,
            taken: BTreeMap::new(),
        })
    }

    /// Weights made in code.
    pub(crate) fn seeded(seeded: Seeded) -> Self {
        Self {
            origin: Origin::Seeded(seeded),
            dry: false,
            taken: BTreeMap::new(),
        }
    }

    /// The same with zeros for values: names, shapes and dtypes are checked, nothing else is read.
    pub(crate) fn dry(self) -> Self {
        Self { dry: true, ..self }
    }

    /// The tensor `name`, which must have this shape, in f32.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        self.take_either(name, &[shape])
    }

    /// The weight `name` of a linear layer, `[n, n]`, which old files store as `[n, n, 1, 1]`.
    pub(crate) fn take_linear(&mut self, name: &str, n: usize) -> Result<Vec<f32>, Error> {
        self.take_either(name, &[&[n, n], &[n, n, 1, 1]])
    }

    /// The tensor `name` in one of these shapes, which have the same values in the same order.
    fn take_either(&mut self, name: &str, shapes: &[&[usize]]) -> Result<Vec<f32>, Error> {
        let values = match &mut self.origin {
            Origin::Files(files) if self.dry => {
                files.check(name, shapes)?;
                vec![0.0; shapes[0].iter().product()]
            }
            Origin::Files(files) => files.read(name, shapes)?,
            Origin::Seeded(seeded) => seeded.make(name, shapes[0]),
        };
        let hash = match self.dry {
            true => Hash::from_bytes([0; 32]),
            false => hash(shapes[0], &values),
        };
        self.taken.insert(name.to_owned(), hash);
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
}

/// Of a tensor's shape and values.
fn hash(shape: &[usize], values: &[f32]) -> Hash {
    let mut hasher = Hasher::new();
    hasher.update(&(shape.len() as u64).to_le_bytes());
    for &side in shape {
        hasher.update(&(side as u64).to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(values.len() * 4);
    crate::DType::F32.write(values, &mut bytes);
    hasher.update(&bytes);
    hasher.finalize()
}
