//! Parameters of `AutoencoderDC`.

use serde::{Deserialize, Serialize};

use super::{bounds, channels};
use crate::LatentNorm;

/// `AutoencoderDC`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct DcConfig {
    pub(crate) in_channels: usize,
    pub(crate) latent_channels: usize,
    pub(crate) attention_head_dim: usize,
    pub(crate) encoder_block_types: OneOrMany,
    pub(crate) encoder_block_out_channels: Vec<usize>,
    pub(crate) encoder_layers_per_block: Vec<usize>,
    pub(crate) encoder_qkv_multiscales: Vec<Vec<usize>>,
    pub(crate) downsample_block_type: String,
    pub(crate) encoder_out_shortcut: bool,
    pub(crate) scaling_factor: f64,
}

/// The same block in every stage, or one named for each.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(BlockType),
    Many(Vec<BlockType>),
}

/// What a stage is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum BlockType {
    /// Two convolutions and a norm.
    #[serde(rename = "ResBlock")]
    Residual,
    /// Linear attention, then a gated convolution.
    #[serde(rename = "EfficientViTBlock")]
    EfficientVit,
}

impl DcConfig {
    /// The block of stage `index`.
    pub(crate) fn block(&self, index: usize) -> BlockType {
        match &self.encoder_block_types {
            OneOrMany::One(block) => *block,
            OneOrMany::Many(blocks) => blocks[index],
        }
    }

    /// Whether a down-sampler moves pixels to channels, rather than striding. Files say `Conv` or
    /// `conv` where they stride.
    pub(crate) fn unshuffles(&self) -> bool {
        self.downsample_block_type == "pixel_unshuffle"
    }

    /// How a raw latent becomes what the diffusion model sees.
    pub(crate) fn latent_norm(&self) -> LatentNorm {
        LatentNorm::ShiftScale {
            shift: 0.0,
            scale: self.scaling_factor as f32,
        }
    }

    pub(super) fn fault(&self) -> Option<String> {
        let stages = self.encoder_block_out_channels.len();
        let mut lengths = vec![
            (
                "encoder_layers_per_block",
                self.encoder_layers_per_block.len(),
            ),
            (
                "encoder_qkv_multiscales",
                self.encoder_qkv_multiscales.len(),
            ),
        ];
        if let OneOrMany::Many(blocks) = &self.encoder_block_types {
            lengths.push(("encoder_block_types", blocks.len()));
        }
        if let Some((name, length)) = lengths.iter().find(|(_, length)| *length < stages) {
            return Some(format!("{length} values in {name}, but {stages} stages"));
        }
        bounds(
            &self.encoder_block_out_channels,
            &self.encoder_layers_per_block,
        )
        .or_else(|| channels(&[self.in_channels, self.latent_channels]))
        .or_else(|| self.uneven())
    }

    /// Heads and averaged groups of channels must come out even.
    fn uneven(&self) -> Option<String> {
        let stages = &self.encoder_block_out_channels;
        let head = self.attention_head_dim;
        let heads = |&(index, &channels): &(usize, &usize)| {
            self.block(index) == BlockType::EfficientVit
                && self.encoder_layers_per_block[index] > 0
                && (head == 0 || channels < head)
        };
        if let Some((_, channels)) = stages.iter().enumerate().find(heads) {
            return Some(format!("{channels} channels hold no head of {head}"));
        }
        if self
            .encoder_qkv_multiscales
            .iter()
            .flatten()
            .any(|kernel| kernel % 2 == 0)
        {
            return Some("encoder_qkv_multiscales must be odd".to_owned());
        }
        let uneven = |pair: &&[usize]| {
            !(pair[0] * 4).is_multiple_of(pair[1])
                || self.unshuffles() && !pair[1].is_multiple_of(4)
        };
        if let Some(pair) = stages.windows(2).find(uneven) {
            return Some(format!(
                "no even shortcut from {} to {} channels",
                pair[0], pair[1]
            ));
        }
        let last = stages[stages.len() - 1];
        (self.encoder_out_shortcut && !last.is_multiple_of(self.latent_channels)).then(|| {
            format!(
                "no even shortcut from {last} to {} latent channels",
                self.latent_channels
            )
        })
    }
}

impl Default for DcConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            latent_channels: 32,
            attention_head_dim: 32,
            encoder_block_types: OneOrMany::One(BlockType::Residual),
            encoder_block_out_channels: vec![128, 256, 512, 512, 1024, 1024],
            encoder_layers_per_block: vec![2, 2, 2, 3, 3, 3],
            encoder_qkv_multiscales: vec![vec![], vec![], vec![], vec![5], vec![5], vec![5]],
            downsample_block_type: "pixel_unshuffle".to_owned(),
            encoder_out_shortcut: true,
            scaling_factor: 1.0,
        }
    }
}
