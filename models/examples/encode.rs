//! Encodes images, or pixels from a safetensors file, without any server.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use preheat_models::{
    DType, Encoder, Moments, Options, PixelData, Pixels, Posterior, Scale, Source, choose_one,
    image::{self, Filter},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// Pixels of a picture that is decoded at all: 100 megapixels.
const MAX_PIXELS: u64 = 100_000_000;

/// Encodes images and writes `mean`, `logvar` (where the class has a posterior) and `latents` (the
/// mode, normalised) as f32, `[batch, channels, height, width]`; clips of more than one frame have
/// `[batch, channels, frames, height, width]`.
#[derive(Parser)]
struct Args {
    /// A directory in the diffusers layout, builtin:tiny, or builtin:wan.
    #[arg(long)]
    model: Source,
    /// f32, f16 or bf16 [default: by model and device].
    #[arg(long)]
    dtype: Option<DType>,
    /// cpu, cuda:N, vulkan:N, or auto for the best that is there.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Width and height to encode at; without it each picture's own size, rounded down to what the
    /// model takes. Pictures are resized to cover it (Lanczos) and cropped at the centre.
    #[arg(long, value_parser = size, value_name = "WxH")]
    size: Option<[u32; 2]>,
    /// Encode the tensor `pixels` (f32, [B,3,H,W] or [B,3,T,H,W], in [-1, 1]) of this file instead of
    /// images; nothing is done to it before the model.
    #[arg(long, conflicts_with_all = ["images", "size"], value_name = "FILE")]
    pixels: Option<PathBuf>,
    /// The images are the frames of one clip, in this order.
    #[arg(long, conflicts_with = "pixels")]
    clip: bool,
    /// Encode large pictures in tiles, as diffusers does after `enable_tiling()`.
    #[arg(long)]
    tiling: bool,
    /// Encode pictures one by one, as diffusers does after `enable_slicing()`.
    #[arg(long)]
    slicing: bool,
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[arg(required_unless_present = "pixels")]
    images: Vec<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let options = Options {
        device: choose_one(&args.device)?,
        dtype: args.dtype,
        tiling: args.tiling,
        slicing: args.slicing,
    };
    let mut encoder = preheat_models::open_with(&args.model, options)?;
    let spec = encoder.spec().clone();
    eprintln!(
        "{} on {} in {} ({}), fingerprint {}",
        spec.class, spec.device, spec.dtype, spec.dtype_reason, spec.fingerprint
    );
    if spec.untrained {
        eprintln!("note: this model is untrained; its latents are good for trying things only");
    }
    let (pixels, clips) = match &args.pixels {
        Some(path) => read_pixels(path)?,
        None => (read_images(&args, spec.size_multiple)?, args.clip),
    };
    let moments = encoder.encode(&pixels)?;
    for index in 0..pixels.batch {
        moments.check(index, spec.dtype)?;
    }
    // A class that compresses time answers a clip, however short, with a clip.
    let clips = clips && spec.temporal_compression > 1 || moments.shape[2] > 1;
    write(encoder.as_ref(), &moments, (clips, &args.output))?;
    eprintln!("{:?} to {}", moments.shape, args.output.display());
    Ok(())
}

fn size(text: &str) -> Result<[u32; 2]> {
    let (width, height) = text.split_once('x').context("write it as WIDTHxHEIGHT")?;
    Ok([width.parse()?, height.parse()?])
}

/// The tensor `pixels` of the file at `path`, and whether it has an axis of frames.
fn read_pixels(path: &Path) -> Result<(Pixels, bool)> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let tensor = file.tensor("pixels")?;
    ensure!(tensor.dtype() == Dtype::F32, "`pixels` must be F32");
    let clips = tensor.shape().len() == 5;
    let (batch, frames, height, width) = match *tensor.shape() {
        [batch, 3, height, width] => (batch, 1, height, width),
        [batch, 3, frames, height, width] => (batch, frames, height, width),
        ref other => bail!("`pixels` is {other:?}; use [B,3,H,W] or [B,3,T,H,W]"),
    };
    let values = tensor
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|&b| f32::from_le_bytes(b));
    let pixels = Pixels {
        batch,
        frames,
        height,
        width,
        data: PixelData::Planar(values.collect()),
    };
    Ok((pixels, clips))
}

/// Every image, at the same size.
fn read_images(args: &Args, multiple: usize) -> Result<Pixels> {
    let mut size = args.size;
    let mut data = Vec::new();
    for path in &args.images {
        let mut read = || -> Result<Vec<u8>> {
            let rgb = image::decode(&fs::read(path)?, MAX_PIXELS)?;
            let floor = |side: u32| side / multiple as u32 * multiple as u32;
            let own = [floor(rgb.width), floor(rgb.height)];
            ensure!(
                own[0] > 0 && own[1] > 0,
                "smaller than {multiple}x{multiple}: give --size"
            );
            ensure!(
                args.size.is_some() || *size.get_or_insert(own) == own,
                "{}x{} would be encoded at another size than the first image: give --size",
                rgb.width,
                rgb.height
            );
            let size = size.unwrap_or(own);
            let transform = image::cover([rgb.width, rgb.height], size, Filter::Lanczos);
            Ok(image::apply(rgb, &transform)?.data)
        };
        data.extend(read().with_context(|| path.display().to_string())?);
    }
    let [width, height] = size.unwrap_or_default();
    let (batch, frames) = match args.clip {
        true => (1, args.images.len()),
        false => (args.images.len(), 1),
    };
    Ok(Pixels {
        batch,
        frames,
        height: height as usize,
        width: width as usize,
        data: PixelData::Rgb8(data),
    })
}

fn write(encoder: &dyn Encoder, moments: &Moments, (clips, output): (bool, &Path)) -> Result<()> {
    let spec = encoder.spec();
    let [batch, _, frames, height, width] = moments.shape;
    let latents = (0..batch)
        .flat_map(|index| moments.latent(index, spec, Posterior::Mode, Scale::Normalized))
        .collect();
    let patch = spec.norm.patch();
    let mut parts = vec![
        ("mean", moments.mean.clone(), [height, width]),
        ("latents", latents, [height / patch, width / patch]),
    ];
    if let Some(logvar) = &moments.logvar {
        parts.push(("logvar", logvar.clone(), [height, width]));
    }
    let mut tensors = BTreeMap::new();
    for (name, values, [height, width]) in parts {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let channels = values.len() / (batch * frames * height * width);
        let shape = match clips {
            true => vec![batch, channels, frames, height, width],
            false => vec![batch, channels, height, width],
        };
        tensors.insert(name, (shape, bytes));
    }
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| {
            Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize_to_file(views, None, output)
        .with_context(|| format!("writing {}", output.display()))
}
