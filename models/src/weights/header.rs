//! The header of a safetensors file: what lies where.

use std::collections::BTreeMap;

use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::Value;

/// The key that is no tensor.
const METADATA: &str = "__metadata__";

/// Reads and checks a header; where it is wrong, says in which tensor.
pub(super) fn parse(header: &[u8]) -> Result<Metadata, String> {
    serde_json::from_slice(header).map_err(|error| {
        let fault = fault(header).unwrap_or_else(|| error.to_string());
        format!("damaged safetensors header: {fault}")
    })
}

/// The first tensor that does not lie behind the one before it, or does not fill its bytes.
fn fault(header: &[u8]) -> Option<String> {
    let entries: BTreeMap<String, Value> = serde_json::from_slice(header).ok()?;
    let mut tensors = Vec::new();
    for (name, entry) in entries {
        match serde_json::from_value::<TensorInfo>(entry) {
            _ if name == METADATA => {}
            Ok(info) => tensors.push((name, info)),
            Err(error) => return Some(format!("tensor `{name}`: {error}")),
        }
    }
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = 0;
    for (name, info) in tensors {
        let (start, stop) = info.data_offsets;
        if start != end || stop < start {
            return Some(format!(
                "tensor `{name}` lies at bytes {start} to {stop}, but should start at {end}"
            ));
        }
        let values = info
            .shape
            .iter()
            .try_fold(1, |n: usize, &m| n.checked_mul(m));
        let bits = values.and_then(|values| values.checked_mul(info.dtype.bitsize()));
        if bits != (stop - start).checked_mul(8) {
            let (dtype, shape, bytes) = (info.dtype, info.shape, stop - start);
            return Some(format!(
                "tensor `{name}` has {bytes} bytes, which are not {dtype:?} of shape {shape:?}"
            ));
        }
        end = stop;
    }
    None
}
