//! Checkpoints without values, to test what is loaded rather than what is computed.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use safetensors::{SafeTensors, tensor::TensorInfo};
use tempfile::TempDir;

pub(crate) const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// A tensor without its values: a line of `tensors.txt`, or of the header of a file.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
}

impl Listed {
    pub(crate) fn parse(line: &str) -> Self {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("name, dtype, shape");
        let (name, dtype, shape) = (word(), word(), word());
        let side = |side: &str| side.parse().expect("a number");
        Self {
            name: name.to_owned(),
            dtype: dtype.to_owned(),
            shape: match shape {
                "scalar" => Vec::new(),
                sides => sides.split('x').map(side).collect(),
            },
        }
    }

    /// The tensors of the weights in `folder`.
    pub(crate) fn of(folder: &Path) -> Vec<Self> {
        let bytes = fs::read(folder.join(WEIGHTS)).expect("weights");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
        let listed = |(name, info): (String, &TensorInfo)| Self {
            name,
            dtype: format!("{:?}", info.dtype),
            shape: info.shape.clone(),
        };
        header.tensors().into_iter().map(listed).collect()
    }

    fn bytes(&self) -> usize {
        self.len()
            * match self.dtype.as_str() {
                "I64" => 8,
                "F32" => 4,
                "F16" => 2,
                other => panic!("{} is {other}", self.name),
            }
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A checkpoint of the config in `folder` and exactly these tensors, all zero: its data is a hole, which takes no room on disk.
pub(crate) fn hollow(folder: &Path, tensors: &[Listed]) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = folder.join("config.json");
    fs::copy(config, dir.path().join("config.json")).expect("copies");
    let mut end = 0;
    let mut entry = |tensor: &Listed| {
        let start = end;
        end += tensor.bytes();
        let Listed { name, dtype, shape } = tensor;
        format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        )
    };
    let header: Vec<_> = tensors.iter().map(&mut entry).collect();
    let header = format!("{{{}}}", header.join(","));
    let mut file = File::create(dir.path().join(WEIGHTS)).expect("creates");
    let length = header.len() as u64;
    file.write_all(&length.to_le_bytes()).expect("writes");
    file.write_all(header.as_bytes()).expect("writes");
    file.set_len(8 + length + end as u64).expect("extends");
    dir
}
