//! What the classes that are made for clips deliver.

use super::Delivers;
use crate::{
    config::{CogVideoXConfig, Hunyuan15Config, HunyuanConfig, MochiConfig},
    model::{Sizes, Tiling},
};

impl HunyuanConfig {
    pub(super) fn delivers(&self) -> Delivers {
        let cell = self.spatial_compression_ratio;
        let temporal = self.temporal_compression_ratio;
        Delivers {
            latent_channels: self.latent_channels,
            has_posterior: true,
            temporal,
            norm: self.latent_norm(),
            sizes: Sizes {
                cell,
                rounds_up: true,
                frame_step: temporal,
                ..Sizes::halved(1)
            },
            tiling: Some(tiling(cell)),
        }
    }
}

impl Hunyuan15Config {
    pub(super) fn delivers(&self) -> Delivers {
        let cell = self.spatial_compression_ratio;
        let temporal = self.temporal_compression_ratio;
        Delivers {
            latent_channels: self.latent_channels,
            has_posterior: true,
            temporal,
            norm: self.latent_norm(),
            sizes: Sizes {
                cell,
                even: cell,
                frame_step: temporal,
                ..Sizes::halved(1)
            },
            tiling: Some(tiling(cell)),
        }
    }
}

impl CogVideoXConfig {
    pub(super) fn delivers(&self) -> Delivers {
        Delivers {
            latent_channels: self.latent_channels,
            has_posterior: true,
            temporal: 1 << self.time_halvings(),
            norm: self.latent_norm(),
            sizes: Sizes::halved(self.block_out_channels.len()),
            // diffusers' tiles are not square, and hand each other nothing over time.
            tiling: None,
        }
    }
}

impl MochiConfig {
    pub(super) fn delivers(&self) -> Delivers {
        let [temporal, cell] = self.compression();
        // Halving drops a last odd row; other strides were never meant to.
        let halves = self.spatial_expansions.iter().all(|&stride| stride <= 2);
        Delivers {
            latent_channels: self.latent_channels,
            has_posterior: true,
            temporal,
            norm: self.latent_norm(),
            sizes: Sizes {
                cell,
                even: if halves { 1 } else { cell },
                frame_step: temporal,
                ..Sizes::halved(1)
            },
            tiling: Some(tiling(cell)),
        }
    }
}

/// Tiles of 256 pixels every 192, as both HunyuanVideos and Mochi have them.
fn tiling(cell: usize) -> Tiling {
    Tiling {
        trigger: 256,
        tile: 256,
        stride: 192,
        blend: 256 / cell - 192 / cell,
        keep: 192 / cell,
        pad_to: 1,
        cut: Some(cell),
    }
}
