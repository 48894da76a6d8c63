//! From a config and weights to an encoder on a device.

use crate::{
    DType, Device, Encoder, Error, Fingerprint, LatentNorm, Spec,
    config::Config,
    kl::Kl,
    model::{Family, Model, Sizes},
    nn::{Loader, Ops},
    tiny::Tiny,
    weights::Weights,
};

/// Changes whenever the same weights, config and pixels could give other latents than before.
const NUMERICS_VERSION: u32 = 1;

/// Pixels of a batch past which a CPU gains nothing: one 512x512 image.
const CPU_BATCH_PIXELS: u64 = 1 << 18;

/// What the caller asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build {
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    pub(crate) untrained: bool,
}

/// What a class delivers, as far as it follows from the config.
struct Delivers {
    latent_channels: usize,
    /// Pixels per latent cell.
    compression: usize,
    has_posterior: bool,
    norm: LatentNorm,
    sizes: Sizes,
}

/// Lays the weights out on `device` and checks that none is left over.
pub(crate) fn encoder<B: Ops>(
    config: &Config,
    mut weights: Weights,
    device: B::Device,
    build: Build,
) -> Result<Box<dyn Encoder>, Error> {
    let mut load = Loader::<B> {
        weights: &mut weights,
        device: &device,
        dtype: build.dtype,
    };
    match config {
        Config::Kl(kl) => {
            let family = Kl::load(&mut load, kl)?;
            let compression = 1 << (kl.block_out_channels.len() - 1);
            let delivers = Delivers {
                latent_channels: kl.latent_channels,
                compression,
                has_posterior: true,
                norm: kl.latent_norm(),
                sizes: Sizes {
                    multiple: 1,
                    minimum: compression,
                },
            };
            finish(family, delivers, config, weights, (device, build))
        }
        Config::Tiny(tiny) => {
            let family = Tiny::load(&mut load, tiny)?;
            let delivers = Delivers {
                latent_channels: tiny.latent_channels,
                compression: 1 << (tiny.num_encoder_blocks.len() - 1),
                has_posterior: false,
                norm: tiny.latent_norm(),
                sizes: Sizes {
                    multiple: 1,
                    minimum: 1,
                },
            };
            finish(family, delivers, config, weights, (device, build))
        }
    }
}

fn finish<B: Ops, F: Family<B> + 'static>(
    family: F,
    delivers: Delivers,
    config: &Config,
    weights: Weights,
    (device, build): (B::Device, Build),
) -> Result<Box<dyn Encoder>, Error> {
    let Build {
        device: name,
        dtype,
        untrained,
    } = build;
    let mut identity = blake3::Hasher::new();
    let config_text = serde_json::to_string(config).expect("a config is plain data");
    identity.update(weights.finish()?.as_bytes());
    // Device and tiling are not part of it: a device within tolerance may serve the same run.
    let rest = format!("{config_text} {dtype} tiling none numerics {NUMERICS_VERSION}");
    identity.update(rest.as_bytes());
    let spec = Spec {
        class: config.class().to_owned(),
        fingerprint: Fingerprint(*identity.finalize().as_bytes()),
        device: name,
        dtype,
        latent_channels: delivers.latent_channels,
        spatial_compression: delivers.compression,
        temporal_compression: 1,
        size_multiple: delivers.compression.max(delivers.sizes.multiple),
        has_posterior: delivers.has_posterior,
        norm: delivers.norm,
        untrained,
        preferred_batch_pixels: CPU_BATCH_PIXELS,
    };
    Ok(Box::new(Model {
        family,
        device,
        spec,
        sizes: delivers.sizes,
    }))
}
