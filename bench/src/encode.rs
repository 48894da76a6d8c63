//! `preheat-bench encode`: how fast a model encodes in this process, and with `--through-loader` how
//! much of that a loader gets from a replica that runs the same model, and with `--compare-python`
//! how fast PyTorch is, and how far both are from PyTorch in f32.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use preheat_models::{Device, Encoder, PixelData, Pixels, Source, choose_one, flops, image, open};

use crate::{
    photos,
    report::{Cell, Report, median},
};

mod compare;
mod through;

use compare::Torch;
use through::ThroughLoader;

/// Options of `preheat-bench encode`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory in the diffusers layout, `builtin:tiny`, or `synthetic[:key=value,...]`.
    #[arg(long, default_value = "builtin:tiny")]
    model: String,
    /// Sides of square images, in pixels.
    #[arg(long, value_delimiter = ',', default_value = "256,512")]
    size: Vec<u32>,
    /// Images of one device batch.
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
    /// Images of one measurement, at least; rounded up to whole batches.
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
    let mut report = report(args, &cases, &lanes);
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

fn report(args: &Args, cases: &[Case], lanes: &[Lane]) -> Report {
    let mut report = Report::default();
    let mut columns = vec!["size", "batch", "dtype", "images/s", "ms/batch", "GFLOP/s"];
    let versus = |case: &Case, other: &[f64], ours: fn((&f64, &f64)) -> f64| -> [Cell; 2] {
        let ratios: Vec<f64> = case.in_process.iter().zip(other).map(ours).collect();
        [median(other).into(), median(&ratios).into()]
    };
    let row = |case: &Case| {
        let rate = median(&case.in_process);
        let gflops = case.flops as f64 / case.batch as f64 / 1e9;
        let mut row: Vec<Cell> = vec![
            format!("{0}x{0}", case.size).into(),
            (case.batch as f64).into(),
            lanes[case.lane].ours.spec().dtype.to_string().into(),
            rate.into(),
            (1e3 * case.batch as f64 / rate).into(),
            (gflops * rate).into(),
        ];
        if args.through_loader {
            row.extend(versus(case, &case.through_loader, |(ours, loader)| {
                loader / ours
            }));
        }
        if args.compare_python.is_some() {
            row.extend(versus(case, &case.torch, |(ours, torch)| ours / torch));
            if args.compare_compiled {
                row.extend(versus(case, &case.compiled, |(ours, torch)| ours / torch));
            }
            let distances = case.distances.unwrap_or([f64::NAN; 2]);
            row.extend(distances.map(|distance| Cell::from(format!("{distance:.1e}"))));
        }
        row
    };
    if args.through_loader {
        columns.extend(["loader images/s", "loader/ours"]);
    }
    if args.compare_python.is_some() {
        columns.extend(["PyTorch images/s", "ours/PyTorch"]);
        if args.compare_compiled {
            columns.extend(["compiled images/s", "ours/compiled"]);
        }
        columns.extend(["error", "PyTorch's"]);
    }
    let title = format!(
        "{} on {}, median of {} rounds",
        args.model, args.device, args.rounds
    );
    report.table(&title, &columns, cases.iter().map(row).collect());
    if let Some(bytes) = peak_memory() {
        report.figure("peak memory of this process", bytes as f64 / 1e6, "MB");
    }
    if lanes.iter().any(|lane| lane.ours.spec().untrained) {
        report.note("This model is untrained: its speed is real, its latents mean nothing.");
    }
    if args.through_loader {
        report.note(
            "loader: images/s that a loader in this process gets from a replica in another, from \
             files to latents; ours: plain encode calls on ready pixels in this process. Ratios are \
             medians of the rounds' ratios.",
        );
    }
    report
}

/// What PyTorch calls the device, or the one that it has instead.
const fn device_in_python(device: Device) -> &'static str {
    match device {
        Device::Cuda(_) => "cuda",
        Device::Cpu | Device::Vulkan(_) => "cpu",
    }
}

/// The most memory that this process ever held, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:32} {pos}/{len}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
