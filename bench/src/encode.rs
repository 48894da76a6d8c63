//! `preheat-bench encode`: how fast a model encodes in this process, and with `--through-loader` how
//! much of that a loader gets from a replica that runs the same model, and with `--compare-python`
//! how fast PyTorch is, and how far both are from PyTorch in f32. With `--jpeg` it measures instead
//! what frames that were sent as JPEG do to latents.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use preheat_models::{Device, Encoder, PixelData, Pixels, Source, choose_one, flops, image, open};
use preheat_proto::limits;

use crate::{photos, report::Report};

mod compare;
mod footage;
mod jpeg;
mod table;
mod through;

use compare::Torch;
use footage::Footage;
use through::ThroughLoader;

/// Options of `preheat-bench encode`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory in the diffusers layout, `builtin:tiny`, `builtin:wan`, or
    /// `synthetic[:key=value,...]`.
    #[arg(long, default_value = "builtin:tiny")]
    model: String,
    /// Encode clips of so many frames, out of the sample clips, instead of photos; 1 for photos. Needs
    /// FFmpeg.
    #[arg(long, value_name = "N", default_value = "1", value_parser = frames())]
    frames: usize,
    /// Measure how far latents are off where frames of the sample clips are sent as JPEG of these
    /// qualities, instead of speed.
    #[arg(
        long,
        value_name = "QUALITY,...",
        value_delimiter = ',',
        conflicts_with_all = ["through_loader", "compare_python"]
    )]
    jpeg: Vec<u8>,
    /// Sides of square images, in pixels.
    #[arg(long, value_delimiter = ',', default_value = "256,512")]
    size: Vec<u32>,
    /// Images, or clips, of one device batch.
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    batch: Vec<usize>,
    /// What to compute in.
    #[arg(long, value_delimiter = ',', default_value = "f32")]
    dtype: Vec<String>,
    /// Where to compute: `auto`, `cpu`, `cuda:N` or `vulkan:N`. PyTorch computes in the same place,
    /// beside Vulkan on the CPU.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// How often to measure everything; medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Images, or clips, of one measurement, at least; rounded up to whole batches.
    #[arg(long, default_value_t = 24)]
    images: usize,
    /// Also run the same images through a loader and a replica, in turn with the others.
    #[arg(long)]
    through_loader: bool,
    /// Also run the same batches in PyTorch, in turn with the others: a Python with torch and
    /// diffusers. Relative L2 distances from PyTorch in f32 are printed too, ours and PyTorch's own.
    #[arg(long, value_name = "PYTHON")]
    compare_python: Option<PathBuf>,
    /// With PyTorch, also run it through `torch.compile`, once more in turn.
    #[arg(long, requires = "compare_python")]
    compare_compiled: bool,
}

/// One combination, and what was measured of it: images per second, one value a round.
struct Case {
    lane: usize,
    size: u32,
    batch: usize,
    images: usize,
    /// A batch of real photos, decoded and cropped.
    pixels: Pixels,
    /// Floating-point operations that a batch takes.
    flops: u64,
    in_process: Vec<f64>,
    through_loader: Vec<f64>,
    torch: Vec<f64>,
    compiled: Vec<f64>,
    /// Relative L2 from PyTorch in f32: ours, PyTorch's.
    distances: Option<[f64; 2]>,
}

/// The model in one dtype, and PyTorch beside it where it was asked for.
struct Lane {
    ours: Box<dyn Encoder>,
    torch: Option<Torch>,
    compiled: Option<Torch>,
}

impl Lane {
    fn start(args: &Args, source: &Source, device: Device, dtype: &str) -> anyhow::Result<Self> {
        let ours = open(source, device, dtype.parse()?).with_context(|| format!("in {dtype}"))?;
        let start = |mode| {
            let python = args.compare_python.as_deref()?;
            let device = device_in_python(device);
            Some(Torch::start(python, [&args.model, dtype, device, mode]))
        };
        Ok(Self {
            ours,
            torch: start("eager").transpose()?,
            compiled: if args.compare_compiled {
                start("compiled").transpose()?
            } else {
                None
            },
        })
    }

    /// Page faults, caches and clocks of the first call are nobody's rate. What takes no time is
    /// learned here: the work a batch takes, and how far the latents are from PyTorch's.
    fn warm_up(&mut self, case: &mut Case) -> anyhow::Result<()> {
        let first = || in_process(self.ours.as_mut(), case, 1);
        let (took, flops) = flops::count(first);
        took?;
        case.flops = flops;
        if let Some(torch) = &mut self.torch {
            torch.run(case, 1)?;
            let ours = self.ours.encode(&case.pixels)?;
            case.distances = Some(torch.distances(case, &ours.mean)?);
        }
        if let Some(torch) = &mut self.compiled {
            torch.run(case, 1)?;
        }
        Ok(())
    }

    /// One turn for each who runs, so that a noisy minute hurts all alike.
    fn round(&mut self, case: &mut Case, loader: Option<&ThroughLoader>) -> anyhow::Result<()> {
        let images = case.images;
        let rate = |took: Duration| images as f64 / took.as_secs_f64();
        let ours = in_process(self.ours.as_mut(), case, images)?;
        case.in_process.push(rate(ours));
        if let Some(loader) = loader {
            case.through_loader.push(rate(loader.run()?));
        }
        if let Some(torch) = &mut self.torch {
            case.torch.push(rate(torch.run(case, images)?));
        }
        if let Some(torch) = &mut self.compiled {
            case.compiled.push(rate(torch.run(case, images)?));
        }
        Ok(())
    }
}

/// Measures every combination once a round.
///
/// # Errors
/// Where the model cannot be opened, a replica cannot be started, or Python fails.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let source: Source = args.model.parse()?;
    let device = choose_one(&args.device)?;
    let start = |dtype: &String| Lane::start(args, &source, device, dtype);
    let mut lanes: Vec<Lane> = args.dtype.iter().map(start).collect::<Result<_, _>>()?;
    if !args.jpeg.is_empty() {
        return jpeg::run(args, &mut lanes, &Footage::open()?);
    }
    let mut cases = cases(args, lanes.len())?;
    ensure!(
        !cases.is_empty() && args.rounds > 0,
        "nothing to measure: give a size, a batch, rounds"
    );
    let loaders = if args.through_loader {
        through::start(args, &cases)?
    } else {
        Vec::new()
    };
    for case in &mut cases {
        lanes[case.lane].warm_up(case)?;
    }
    let progress = ProgressBar::new((args.rounds * cases.len()) as u64).with_style(style());
    for _ in 0..args.rounds {
        for (index, case) in cases.iter_mut().enumerate() {
            progress.set_message(format!("{0}x{0}, batch {1}", case.size, case.batch));
            lanes[case.lane].round(case, loaders.get(index))?;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    let mut report = table::report(args, &cases, &lanes);
    if let Some(torch) = lanes.iter().find_map(|lane| lane.torch.as_ref()) {
        report.note(format!("PyTorch: {}, channels last, eager", torch.versions));
        report.note(
            "error: relative L2 distance of the latents from PyTorch's in f32 (without TF32)",
        );
    }
    Ok(report)
}

fn cases(args: &Args, lanes: usize) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    let footage = (args.frames > 1).then(Footage::open).transpose()?;
    let pixels = |size, batch| match &footage {
        Some(footage) => footage.pixels(size, batch, args.frames),
        None => pixels(size, batch),
    };
    for lane in 0..lanes {
        for &size in &args.size {
            for &batch in args.batch.iter().filter(|batch| **batch > 0) {
                cases.push(Case {
                    lane,
                    size,
                    batch,
                    images: args.images.max(1).next_multiple_of(batch),
                    pixels: pixels(size, batch)?,
                    flops: 0,
                    in_process: Vec::new(),
                    through_loader: Vec::new(),
                    torch: Vec::new(),
                    compiled: Vec::new(),
                    distances: None,
                });
            }
        }
    }
    Ok(cases)
}

fn pixels(size: u32, batch: usize) -> anyhow::Result<Pixels> {
    let mut data = Vec::new();
    for (_, bytes) in photos::all().into_iter().cycle().take(batch) {
        let photo = image::decode(bytes, u64::MAX)?;
        let source = [photo.width, photo.height];
        let transform = image::cover(source, [size; 2], image::Filter::Lanczos);
        data.extend(image::apply(photo, &transform)?.data);
    }
    let (side, data) = (size as usize, PixelData::Rgb8(data));
    Ok(Pixels {
        batch,
        frames: 1,
        height: side,
        width: side,
        data,
    })
}

/// Time of plain encode calls for at least `images`.
fn in_process(model: &mut dyn Encoder, case: &Case, images: usize) -> anyhow::Result<Duration> {
    let start = Instant::now();
    for _ in 0..images.div_ceil(case.batch) {
        model.encode(&case.pixels)?;
    }
    Ok(start.elapsed())
}

/// As many as the wire takes.
fn frames() -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    let most = i64::from(limits::MAX_FRAMES);
    clap::value_parser!(u32).range(1..=most).map(|n| n as usize)
}

/// What PyTorch calls the device, or the one that it has instead.
const fn device_in_python(device: Device) -> &'static str {
    match device {
        Device::Cuda(_) => "cuda",
        Device::Cpu | Device::Vulkan(_) => "cpu",
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:32} {pos}/{len}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
