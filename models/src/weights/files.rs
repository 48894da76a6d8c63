//! safetensors files: one, a variant, or shards with an index. Headers are read and checked first;
//! then only the byte ranges of tensors that are asked for.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use safetensors::Dtype;
use serde::Deserialize;

use super::header;
use crate::Error;

/// Where diffusers looks, in this order. The second kind are indexes of shards.
const SINGLE: [&str; 3] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bf16.safetensors",
];
const INDEXES: [&str; 3] = [
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.fp16.json",
    "diffusion_pytorch_model.safetensors.index.bf16.json",
];

/// Prefixes of what belongs to the encoder. The rest of a file is not even looked at.
const ENCODER: [&str; 2] = ["encoder.", "quant_conv."];

/// The bound of safetensors itself.
const MAX_HEADER: u64 = 100_000_000;

/// The dtypes that weights come in.
const FLOATS: [Dtype; 4] = [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64];

/// Names in an error; beyond this only their number.
const NAMED: usize = 4;

/// Open files and where the tensors lie in them.
#[derive(Debug)]
pub(crate) struct Files {
    files: Vec<(PathBuf, File)>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    bytes: usize,
}

/// `diffusion_pytorch_model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Files {
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let mut this = Self {
            files: Vec::new(),
            entries: BTreeMap::new(),
        };
        let existing = |names: &[&str]| {
            let mut paths = names.iter().map(|name| dir.join(name));
            paths.find(|path| path.exists())
        };
        if let Some(path) = existing(&SINGLE) {
            this.add(path)?;
        } else if let Some(path) = existing(&INDEXES) {
            this.add_shards(dir, &path)?;
        } else {
            return Err(Error::NoWeights {
                dir: dir.to_owned(),
                looked_for: [SINGLE, INDEXES].concat().join(", "),
            });
        }
        Ok(this)
    }

    /// Whether `name` is there, in one of `shapes` and in a dtype that weights come in.
    pub(crate) fn check(&self, name: &str, shapes: &[&[usize]]) -> Result<(), Error> {
        self.find(name, shapes).map(drop)
    }

    /// The values of `name` in f32; its shape must be one of `shapes`.
    pub(crate) fn read(&mut self, name: &str, shapes: &[&[usize]]) -> Result<Vec<f32>, Error> {
        let &Entry {
            file,
            dtype,
            start,
            bytes,
            ..
        } = self.find(name, shapes)?;
        let mut values = vec![0; bytes];
        let (path, file) = &mut self.files[file];
        file.seek(SeekFrom::Start(start))
            .and_then(|_| file.read_exact(&mut values))
            .map_err(|source| Error::Io {
                path: path.clone(),
                source,
            })?;
        Ok(to_f32(dtype, &values))
    }

    fn find(&self, name: &str, shapes: &[&[usize]]) -> Result<&Entry, Error> {
        let Some(entry) = self.entries.get(name) else {
            let paths: Vec<_> = self
                .files
                .iter()
                .map(|(path, _)| path.display().to_string())
                .collect();
            let reason = format!(
                "missing tensor `{name}` of shape {:?}, which config.json asks for; looked in {}",
                shapes[0],
                paths.join(", ")
            );
            return Err(self.bad(0, reason));
        };
        if !shapes.contains(&entry.shape.as_slice()) {
            let reason = format!(
                "tensor `{name}` has shape {:?}, but config.json asks for {:?}",
                entry.shape, shapes[0]
            );
            return Err(self.bad(entry.file, reason));
        }
        let dtype = entry.dtype;
        if !FLOATS.contains(&dtype) {
            let reason =
                format!("tensor `{name}` is {dtype:?}; weights must be F16, BF16, F32 or F64");
            return Err(self.bad(entry.file, reason));
        }
        Ok(entry)
    }

    /// Refuses files that hold encoder tensors beyond those that `taken` knows.
    pub(crate) fn expect_all_taken(&self, taken: impl Fn(&str) -> bool) -> Result<(), Error> {
        let ours = |name: &str| ENCODER.iter().any(|prefix| name.starts_with(prefix));
        let surplus: Vec<_> = self
            .entries
            .iter()
            .filter(|(name, _)| ours(name) && !taken(name))
            .collect();
        let Some((_, first)) = surplus.first() else {
            return Ok(());
        };
        let names: Vec<_> = surplus
            .iter()
            .take(NAMED)
            .map(|(name, _)| name.as_str())
            .collect();
        let more = match surplus.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let reason = format!(
            "unexpected encoder tensors {}{more}: config.json describes an encoder without them",
            names.join(", ")
        );
        Err(self.bad(first.file, reason))
    }

    /// Every shard that the index at `path` names.
    fn add_shards(&mut self, dir: &Path, path: &Path) -> Result<(), Error> {
        let bad = |reason| Error::BadCheckpoint {
            path: path.to_owned(),
            reason,
        };
        let text = fs::read(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|error| bad(format!("not an index of shards: {error}")))?;
        let mut shards: Vec<_> = index.weight_map.values().collect();
        shards.sort();
        shards.dedup();
        for shard in shards {
            if Path::new(shard).components().count() != 1 || shard.starts_with('.') {
                return Err(bad(format!("shard `{shard}` is not a plain file name")));
            }
            self.add(dir.join(shard))?;
        }
        let lost = |name: &&String| !self.entries.contains_key(&current_name(name));
        match index.weight_map.keys().find(lost) {
            Some(name) => Err(bad(format!("no shard holds tensor `{name}`"))),
            None => Ok(()),
        }
    }

    /// Reads and checks the header of the file at `path`.
    fn add(&mut self, path: PathBuf) -> Result<(), Error> {
        let io = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let bad = |reason| Error::BadCheckpoint {
            path: path.clone(),
            reason,
        };
        let mut file = File::open(&path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut prefix = [0; 8];
        if length < 8 {
            return Err(bad(format!(
                "truncated: {length} bytes are no safetensors file"
            )));
        }
        file.read_exact(&mut prefix).map_err(io)?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > MAX_HEADER || header_length > length - 8 {
            return Err(bad(format!(
                "truncated or not safetensors: the header claims {header_length} bytes, the file has {length}"
            )));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let metadata = header::parse(&header).map_err(bad)?;
        let data = 8 + header_length;
        let promised = data + metadata.data_len() as u64;
        if promised != length {
            return Err(bad(format!(
                "truncated or damaged: the header promises {promised} bytes, the file has {length}"
            )));
        }
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let entry = Entry {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: data + start as u64,
                bytes: end - start,
            };
            self.entries.insert(current_name(&name), entry);
        }
        self.files.push((path, file));
        Ok(())
    }

    fn bad(&self, file: usize, reason: String) -> Error {
        Error::BadCheckpoint {
            path: self.files[file].0.clone(),
            reason,
        }
    }
}

/// diffusers renamed the layers of its attentions, and translates old files as they are loaded.
fn current_name(name: &str) -> String {
    if !name.contains(".attentions.") {
        return name.to_owned();
    }
    let renamed = [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ];
    let old = renamed.iter().find(|(old, _)| name.contains(old));
    old.map_or_else(|| name.to_owned(), |(old, new)| name.replace(old, new))
}

/// Little-endian bytes of one of [`FLOATS`] as f32.
fn to_f32(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F64 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| f64::from_le_bytes(b) as f32)
            .collect(),
        Dtype::F32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect(),
        Dtype::F16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| f16::from_le_bytes(b).to_f32())
            .collect(),
        Dtype::BF16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| bf16::from_le_bytes(b).to_f32())
            .collect(),
        other => unreachable!("{other:?} was refused before"),
    }
}
