//! `preheat-bench encode`: how fast a model encodes in this process, and with `--through-loader` how
//! much of that a loader gets from a replica that runs the same model.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use preheat_models::{DType, Device, Encoder, PixelData, Pixels, Source, image, open};

use crate::{
    photos,
    report::{Report, median},
};

mod through;

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
    /// Where to compute.
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
}

/// One combination, and what was measured of it: images per second, one value a round.
struct Case {
    model: usize,
    size: u32,
    batch: usize,
    images: usize,
    in_process: Vec<f64>,
    through_loader: Vec<f64>,
}

/// Measures every combination once a round, so that a noisy minute hurts all alike.
///
/// # Errors
/// Where the model cannot be opened or a replica cannot be started.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let source: Source = args.model.parse()?;
    let device: Device = args.device.parse()?;
    let mut models = Vec::new();
    for name in &args.dtype {
        let dtype: DType = name.parse()?;
        models.push(open(&source, device, dtype).with_context(|| format!("in {dtype}"))?);
    }
    let mut cases = cases(args, models.len());
    ensure!(
        !cases.is_empty() && args.rounds > 0,
        "nothing to measure: give a size, a batch, rounds"
    );

    let sides = if args.through_loader { 2 } else { 1 };
    let progress = ProgressBar::new((args.rounds * cases.len() * sides) as u64).with_style(style());
    for case in &cases {
        // Page faults, caches and clocks of the first call are nobody's rate.
        in_process(models[case.model].as_mut(), case, case.batch)?;
    }
    let mut loaders = if args.through_loader {
        through::start(args, &cases)?
    } else {
        Vec::new()
    };
    for _ in 0..args.rounds {
        for (index, case) in cases.iter_mut().enumerate() {
            let rate = |took: Duration| case.images as f64 / took.as_secs_f64();
            progress.set_message(format!("{0}x{0}, batch {1}", case.size, case.batch));
            let took = in_process(models[case.model].as_mut(), case, case.images)?;
            case.in_process.push(rate(took));
            progress.inc(1);
            if let Some(loader) = loaders.get_mut(index) {
                let took = loader.run()?;
                case.through_loader.push(rate(took));
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok(report(args, &cases, &models))
}

fn cases(args: &Args, models: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for model in 0..models {
        for &size in &args.size {
            for &batch in args.batch.iter().filter(|batch| **batch > 0) {
                let images = args.images.max(1).next_multiple_of(batch);
                let (in_process, through_loader) = (Vec::new(), Vec::new());
                cases.push(Case {
                    model,
                    size,
                    batch,
                    images,
                    in_process,
                    through_loader,
                });
            }
        }
    }
    cases
}

/// Time to encode `images` real photos that are decoded and cropped already.
fn in_process(model: &mut dyn Encoder, case: &Case, images: usize) -> anyhow::Result<Duration> {
    let side = case.size as usize;
    let mut data = Vec::new();
    for (_, bytes) in photos::all().into_iter().cycle().take(case.batch) {
        let photo = image::decode(bytes, u64::MAX)?;
        let source = [photo.width, photo.height];
        let transform = image::cover(source, [case.size; 2], image::Filter::Lanczos);
        data.extend(image::apply(photo, &transform)?.data);
    }
    let data = PixelData::Rgb8(data);
    let pixels = Pixels {
        batch: case.batch,
        frames: 1,
        height: side,
        width: side,
        data,
    };
    let start = Instant::now();
    for _ in 0..images.div_ceil(case.batch) {
        model.encode(&pixels)?;
    }
    Ok(start.elapsed())
}

fn report(args: &Args, cases: &[Case], models: &[Box<dyn Encoder>]) -> Report {
    let mut report = Report::default();
    let row = |case: &Case| {
        let spec = models[case.model].spec();
        let rate = median(&case.in_process);
        let megapixels = f64::from(case.size).powi(2) / 1e6;
        let mut row = vec![
            format!("{0}x{0}", case.size).into(),
            (case.batch as f64).into(),
            spec.dtype.to_string().into(),
            rate.into(),
            (1e3 * case.batch as f64 / rate).into(),
            (megapixels * rate).into(),
        ];
        if args.through_loader {
            let ratios = case
                .through_loader
                .iter()
                .zip(&case.in_process)
                .map(|(l, p)| l / p);
            row.push(median(&case.through_loader).into());
            row.push(median(&ratios.collect::<Vec<_>>()).into());
        }
        row
    };
    let mut columns = vec!["size", "batch", "dtype", "images/s", "ms/batch", "Mpx/s"];
    if args.through_loader {
        columns.extend(["loader images/s", "ratio"]);
    }
    let title = format!(
        "{} on {}, median of {} rounds",
        args.model, args.device, args.rounds
    );
    report.table(&title, &columns, cases.iter().map(row).collect());
    if models.iter().any(|model| model.spec().untrained) {
        report.note("This model is untrained: its speed is real, its latents mean nothing.");
    }
    if args.through_loader {
        report.note(
            "ratio: images/s that a loader in this process gets from a replica in another, over \
             images/s of plain encode calls on ready pixels; median of the rounds' ratios.",
        );
    }
    report
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:32} {pos}/{len}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
