//! Parameters of `AutoencoderKLFlux2`: those of `AutoencoderKL`, with other defaults, and a patch.

use serde::{Deserialize, Serialize};
use serde_json::{Error, Value, json};

use super::KlConfig;

/// `AutoencoderKLFlux2`.
#[derive(Debug, Serialize)]
pub(crate) struct Flux2Config {
    pub(crate) kl: KlConfig,
    pub(crate) patch_size: [usize; 2],
    pub(crate) batch_norm_eps: f32,
}

/// What [`KlConfig`] does not have.
#[derive(Deserialize)]
#[serde(default)]
struct Own {
    patch_size: [usize; 2],
    batch_norm_eps: f32,
}

impl Flux2Config {
    pub(super) fn parse(file: &Value) -> Result<Self, Error> {
        let mut merged = json!({
            "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
            "block_out_channels": [128, 256, 512, 512],
            "layers_per_block": 2,
            "latent_channels": 32,
            "sample_size": 1024,
        });
        if let (Some(merged), Some(file)) = (merged.as_object_mut(), file.as_object()) {
            merged.extend(file.clone());
        }
        let Own {
            patch_size,
            batch_norm_eps,
        } = Own::deserialize(file)?;
        Ok(Self {
            kl: KlConfig::deserialize(&merged)?,
            patch_size,
            batch_norm_eps,
        })
    }

    /// Cells of the encoder that become one as delivered, along each side.
    pub(crate) fn patch(&self) -> usize {
        self.patch_size[0]
    }

    pub(super) fn fault(&self) -> Option<String> {
        let [rows, columns] = self.patch_size;
        if rows != columns || rows == 0 || rows > 16 {
            return Some(format!(
                "patch_size {rows}x{columns}: use a square of 1 to 16"
            ));
        }
        self.kl.fault()
    }
}

impl Default for Own {
    fn default() -> Self {
        Self {
            patch_size: [2, 2],
            batch_norm_eps: 1e-4,
        }
    }
}
