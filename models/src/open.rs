//! From a config and weights to an encoder on a device.

mod clips;

use crate::{
    DType, Device, Encoder, Error, Fingerprint, LatentNorm, Spec,
    cogvideox::CogVideoX,
    config::{Config, DcConfig, Flux2Config, KlConfig, LtxConfig, TinyConfig, WanConfig},
    dc::Dc,
    hunyuan::Hunyuan,
    hunyuan15::Hunyuan15,
    kl::Kl,
    ltx::Ltx,
    mochi::Mochi,
    model::{Model, Net, Sizes, Tiling},
    nn::{Loader, Ops},
    tiny::Tiny,
    wan::{STEP, Wan},
    weights::Weights,
};

/// Changes whenever the same weights, config and pixels could give other latents than before.
const NUMERICS_VERSION: u32 = 2;

/// What the caller asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build {
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    pub(crate) dtype_reason: &'static str,
    pub(crate) untrained: bool,
    pub(crate) tiling: bool,
    pub(crate) slicing: bool,
}

/// What a class delivers, as far as it follows from the config.
pub(crate) struct Delivers {
    /// Before any packing.
    latent_channels: usize,
    has_posterior: bool,
    /// Frames per latent frame.
    temporal: usize,
    norm: LatentNorm,
    sizes: Sizes,
    /// How diffusers tiles the class, where it can.
    tiling: Option<Tiling>,
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
    let (net, delivers) = net(config, &mut load)?;
    let Delivers {
        latent_channels,
        has_posterior,
        temporal,
        norm,
        sizes,
        tiling,
    } = delivers;
    let tiling = tiling.filter(|_| build.tiling);
    let patch = norm.patch();
    let spec = Spec {
        class: config.class().to_owned(),
        fingerprint: fingerprint(config, weights, (build, tiling))?,
        device: build.device,
        dtype: build.dtype,
        dtype_reason: build.dtype_reason,
        latent_channels: latent_channels * patch * patch,
        spatial_compression: sizes.cell * patch,
        temporal_compression: temporal,
        frame_step: sizes.frame_step,
        size_multiple: sizes.cell * patch,
        reads_pixels: true,
        has_posterior,
        norm,
        untrained: build.untrained,
        preferred_batch_pixels: B::BATCH_PIXELS,
    };
    Ok(Box::new(Model {
        net,
        device,
        spec,
        sizes,
        tiling,
        slicing: build.slicing,
    }))
}

/// Whether the files hold what the config asks for, and nothing more of an encoder: the whole load,
/// with zeros for values.
pub(crate) fn check<B: Ops>(
    config: &Config,
    mut weights: Weights,
    device: B::Device,
) -> Result<(), Error> {
    let mut load = Loader::<B> {
        weights: &mut weights,
        device: &device,
        dtype: DType::F32,
    };
    net(config, &mut load)?;
    weights.finish().map(drop)
}

/// The network of a config, and what it delivers.
pub(crate) fn net<B: Ops>(
    config: &Config,
    load: &mut Loader<'_, B>,
) -> Result<(Net<B>, Delivers), Error> {
    Ok(match config {
        Config::Kl(kl) => {
            let net = Kl::load(load, kl)?;
            (Net::Pictures(Box::new(net)), kl.delivers())
        }
        Config::Flux2(flux2) => {
            let net = Kl::load(load, &flux2.kl)?;
            (Net::Pictures(Box::new(net)), flux2.delivers(load.weights)?)
        }
        Config::QwenImage(wan) | Config::Wan(wan) => {
            let net = Wan::load(load, wan)?;
            (Net::Clips(Box::new(net)), wan.delivers())
        }
        // Every frame is a picture to it. diffusers does not tile this class.
        Config::TemporalDecoder(kl) => {
            let delivers = Delivers {
                tiling: None,
                ..kl.delivers()
            };
            (Net::Pictures(Box::new(Kl::load(load, kl)?)), delivers)
        }
        Config::Ltx(ltx) | Config::Ltx2(ltx) => {
            let net = Ltx::load(load, ltx)?;
            (Net::Clips(Box::new(net)), ltx.delivers(load.weights)?)
        }
        Config::Hunyuan(hunyuan) => {
            let net = Hunyuan::load(load, hunyuan)?;
            (Net::Clips(Box::new(net)), hunyuan.delivers())
        }
        Config::Hunyuan15(hunyuan) => {
            let net = Hunyuan15::load(load, hunyuan)?;
            (Net::Clips(Box::new(net)), hunyuan.delivers())
        }
        Config::CogVideoX(cogvideox) => {
            let net = CogVideoX::load(load, cogvideox)?;
            (Net::Clips(Box::new(net)), cogvideox.delivers())
        }
        Config::Mochi(mochi) => {
            let net = Mochi::load(load, mochi)?;
            (Net::Clips(Box::new(net)), mochi.delivers())
        }
        Config::Dc(dc) => {
            let net = Dc::load(load, dc)?;
            (Net::Pictures(Box::new(net)), dc.delivers())
        }
        Config::Tiny(tiny) => {
            let net = Tiny::load(load, tiny)?;
            (Net::Pictures(Box::new(net)), tiny.delivers())
        }
    })
}

/// The device is not part of it: every device within tolerance may serve the same run.
fn fingerprint(
    config: &Config,
    weights: Weights,
    (build, tiling): (Build, Option<Tiling>),
) -> Result<Fingerprint, Error> {
    let Build { dtype, slicing, .. } = build;
    let config = serde_json::to_string(config).expect("a config is plain data");
    let mut hasher = blake3::Hasher::new();
    hasher.update(weights.finish()?.as_bytes());
    let rest = format!("{config} {dtype} tiling {tiling:?} numerics {NUMERICS_VERSION}");
    hasher.update(rest.as_bytes());
    if slicing {
        hasher.update(b" slicing");
    }
    Ok(Fingerprint(*hasher.finalize().as_bytes()))
}

impl KlConfig {
    fn delivers(&self) -> Delivers {
        Delivers {
            latent_channels: self.latent_channels,
            has_posterior: true,
            temporal: 1,
            norm: self.latent_norm(),
            sizes: Sizes::halved(self.block_out_channels.len()),
            tiling: Some(self.tiling()),
        }
    }
}

impl KlConfig {
    fn tiling(&self) -> Tiling {
        let tile = self.sample_size.side();
        let cells = tile >> (self.block_out_channels.len() - 1);
        let blend = cells / 4;
        Tiling {
            trigger: tile,
            tile,
            stride: tile * 3 / 4,
            blend,
            keep: cells - blend,
            pad_to: 1,
            cut: None,
        }
    }
}

impl Flux2Config {
    /// The norm of the latents is a batch norm whose statistics lie among the weights.
    fn delivers(&self, weights: &mut Weights) -> Result<Delivers, Error> {
        let patch = self.patch();
        let channels = self.kl.latent_channels * patch * patch;
        let mean = weights.take("bn.running_mean", &[channels])?;
        let variance = weights.take("bn.running_var", &[channels])?;
        let std = variance.iter().map(|v| (v + self.batch_norm_eps).sqrt());
        let kl = self.kl.delivers();
        Ok(Delivers {
            norm: LatentNorm::Patch {
                patch,
                mean,
                std: std.collect(),
            },
            sizes: Sizes {
                cells: patch,
                ..kl.sizes
            },
            ..kl
        })
    }
}

impl WanConfig {
    fn delivers(&self) -> Delivers {
        let levels = self.dim_mult.len();
        let halved = Sizes::halved(levels);
        let patch = self.patch();
        let temporal = self.temporal();
        Delivers {
            latent_channels: self.z_dim,
            has_posterior: true,
            temporal,
            norm: self.latent_norm(),
            sizes: Sizes {
                cell: halved.cell * patch,
                // Only averaging shortcuts and patches need to come out even.
                even: if self.is_residual {
                    halved.cell * patch
                } else {
                    patch
                },
                frame_step: temporal.max(STEP),
                ..halved
            },
            tiling: Some(self.tiling()),
        }
    }
}

impl WanConfig {
    /// diffusers counts in patches, but compares the whole picture with the tile.
    fn tiling(&self) -> Tiling {
        let patch = self.patch();
        let cell = self.nominal_cell() / patch;
        Tiling {
            trigger: 256,
            tile: 256 * patch,
            stride: 192 * patch,
            blend: 256 / cell - 192 / cell,
            keep: 192 / cell,
            pad_to: 1,
            cut: Some(cell * patch),
        }
    }
}

impl LtxConfig {
    /// The norm of the latents lies among the weights.
    fn delivers(&self, weights: &mut Weights) -> Result<Delivers, Error> {
        let mut take = |name| weights.take(name, &[self.latent_channels]);
        let [temporal, cell] = self.factors();
        let nominal = self.nominal_cell();
        Ok(Delivers {
            latent_channels: self.latent_channels,
            has_posterior: true,
            temporal,
            norm: LatentNorm::MeanStd {
                mean: take("latents_mean")?,
                std: take("latents_std")?,
                scale: self.scaling_factor as f32,
            },
            sizes: Sizes {
                cell,
                even: if self.divides() {
                    cell
                } else {
                    self.patch_size
                },
                cells: 1,
                rounds_up: !self.divides(),
                frame_step: temporal,
            },
            tiling: Some(Tiling {
                trigger: 512,
                tile: 512,
                stride: 448,
                blend: 512 / nominal - 448 / nominal,
                keep: 448 / nominal,
                pad_to: 1,
                cut: Some(nominal),
            }),
        })
    }
}

impl DcConfig {
    fn delivers(&self) -> Delivers {
        let halved = Sizes::halved(self.encoder_block_out_channels.len());
        Delivers {
            latent_channels: self.latent_channels,
            has_posterior: false,
            temporal: 1,
            norm: self.latent_norm(),
            sizes: Sizes {
                even: halved.cell,
                ..halved
            },
            tiling: Some(Tiling {
                trigger: 512,
                tile: 512,
                stride: 448,
                blend: 512 / halved.cell - 448 / halved.cell,
                keep: 448 / halved.cell,
                pad_to: halved.cell,
                cut: Some(halved.cell),
            }),
        }
    }
}

impl TinyConfig {
    fn delivers(&self) -> Delivers {
        Delivers {
            latent_channels: self.latent_channels,
            has_posterior: false,
            temporal: 1,
            norm: self.latent_norm(),
            sizes: Sizes {
                rounds_up: true,
                ..Sizes::halved(self.num_encoder_blocks.len())
            },
            // diffusers' own is broken for this class.
            tiling: None,
        }
    }
}
