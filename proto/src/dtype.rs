//! Element types of tensors on the wire, and byte arithmetic that cannot overflow.

use std::{fmt, str::FromStr};

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::TENSOR_ALIGN;

/// Element type of a tensor. Bytes are little-endian.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rkyv(derive(Clone, Copy, Debug, PartialEq, Eq))]
#[repr(u8)]
pub enum DType {
    /// IEEE 754 binary32.
    F32 = 1,
    /// IEEE 754 binary16.
    F16 = 2,
    /// The upper half of a binary32.
    BF16 = 3,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// The name that PyTorch users type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A dtype name that is none of `f32`, `f16`, `bf16`.
#[derive(Debug, thiserror::Error)]
#[error("unknown dtype `{0}`: use f32, f16 or bf16")]
pub struct UnknownDType(String);

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::F32, Self::F16, Self::BF16]
            .into_iter()
            .find(|dtype| dtype.name() == name)
            .ok_or_else(|| UnknownDType(name.to_owned()))
    }
}

impl From<ArchivedDType> for DType {
    fn from(dtype: ArchivedDType) -> Self {
        match dtype {
            ArchivedDType::F32 => Self::F32,
            ArchivedDType::F16 => Self::F16,
            ArchivedDType::BF16 => Self::BF16,
        }
    }
}

impl From<DType> for crate::v1::DType {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            DType::BF16 => Self::Bf16,
        }
    }
}

/// Bytes of a dense tensor, or `None` if that does not fit a `usize`.
pub fn tensor_bytes(shape: &[u32], dtype: DType) -> Option<usize> {
    shape.iter().try_fold(dtype.size(), |bytes, &side| {
        bytes.checked_mul(side as usize)
    })
}

/// The distance from one tensor to the next in an answer: `bytes` rounded up to the alignment.
pub fn tensor_stride(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(TENSOR_ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_checked() {
        assert_eq!(tensor_bytes(&[4, 32, 32], DType::F16), Some(8192));
        assert_eq!(tensor_bytes(&[u32::MAX; 4], DType::F32), None);
        assert_eq!(tensor_stride(65), Some(128));
        assert_eq!(tensor_stride(usize::MAX), None);
    }

    #[test]
    fn names_round_trip() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            assert_eq!(dtype.to_string().parse::<DType>().unwrap(), dtype);
        }
        assert!(
            "fp32"
                .parse::<DType>()
                .unwrap_err()
                .to_string()
                .contains("use f32")
        );
    }
}
