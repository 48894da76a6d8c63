//! `preheat-bench demo`: the main job once, on sample photos or clips, with a real replica.

mod film;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use ::image::RgbImage;
use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use preheat_client::{Batch, Config, Crop, DataLoader, SampleInfo};
use preheat_models::image;
use preheat_proto::limits;

use crate::{
    photos,
    replica::Replica,
    report::{Cell, Report},
    sheet::{self, Draw, Latent},
};

/// The pretended training step of the second epoch, as a multiple of what a batch took in the first:
/// a trainer that the replica can just keep up with.
const STEP: f64 = 1.15;

/// Options of `preheat-bench demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory in the diffusers layout, `builtin:tiny` or, for clips, `builtin:wan` (both
    /// untrained), or `synthetic` [default: the one that fits].
    #[arg(long)]
    model: Option<String>,
    /// A folder of images; the bundled photos where not given.
    #[arg(long, value_name = "DIR")]
    photos: Option<PathBuf>,
    /// Clips instead: out of a folder of video files, or the bundled ones. Needs FFmpeg.
    #[arg(long, value_name = "DIR", conflicts_with = "photos")]
    #[expect(
        clippy::option_option,
        reason = "how clap says that the value may be left out"
    )]
    clips: Option<Option<PathBuf>>,
    /// Frames of a clip.
    #[arg(long, default_value_t = 17, requires = "clips",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::MAX_FRAMES)))]
    frames: u32,
    /// Side of a square of as many pixels as every crop, or frame, has at most [default: 256; of
    /// clips 208].
    #[arg(long)]
    size: Option<u32>,
    /// Images, or clips, of one batch [default: 4; of clips 2].
    #[arg(long)]
    batch: Option<u32>,
    /// Seed of order, crops and flips.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to write the contact sheet.
    #[arg(long, default_value = "preheat-demo.png")]
    output: PathBuf,
}

/// Photos on the contact sheet, at most; a large folder would make a picture nobody opens.
const SHEET_PHOTOS: usize = 48;

/// Epochs that the demo runs.
const EPOCHS: u64 = 2;

/// Runs two epochs, the first as fast as it goes, the second at a trainer's pace.
///
/// # Errors
/// Where the replica cannot start or a sample cannot be encoded, and for clips without FFmpeg.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let unpacked = tempfile::tempdir().context("creating a temporary folder")?;
    let film = args.clips.as_ref().map(|folder| {
        let folder = folder.as_deref();
        film::Film::open(folder, unpacked.path())
    });
    let mut film = film.transpose()?;
    let folder = match (&film, &args.photos) {
        (Some(film), _) => film.folder().to_owned(),
        (None, Some(folder)) => folder.clone(),
        (None, None) => {
            photos::unpack(unpacked.path(), photos::all().len())?;
            unpacked.path().to_owned()
        }
    };
    let model = format!("vae={}", args.model());
    let replica = Replica::start(&["--model", &model, "--listen", "127.0.0.1:0"])?;
    println!("replica of {} at {}", args.model(), replica.endpoint());

    let mut loader = DataLoader::new(Config {
        index: Some(unpacked.path().join("demo.index")),
        ..args.config(&folder, &replica)
    })?;
    let first = epoch(&mut loader, "flat out", Duration::ZERO)?;
    let pace = first
        .took
        .div_f64(first.batches.max(1) as f64)
        .mul_f64(STEP);
    let second = epoch(&mut loader, "at a trainer's pace", pace)?;

    let batches = first.kept.iter().chain(&second.kept);
    match &mut film {
        Some(film) => film.draw(batches, args)?,
        None => draw(folder, batches, args)?,
    }
    Ok(report(args, &loader, [&first, &second], pace))
}

impl Args {
    fn model(&self) -> &str {
        let fitting = match self.clips {
            Some(_) => "builtin:wan",
            None => "builtin:tiny",
        };
        self.model.as_deref().unwrap_or(fitting)
    }

    fn config(&self, folder: &Path, replica: &Replica) -> Config {
        let (size, batch, frames) = match self.clips {
            Some(_) => (208, 2, vec![self.frames]),
            None => (256, 4, Vec::new()),
        };
        Config {
            global_batch: self.batch.unwrap_or(batch),
            seed: self.seed,
            epochs: Some(EPOCHS),
            target_area: u64::from(self.size.unwrap_or(size)).pow(2),
            bucket_step: 32,
            crop: Crop::Random,
            flip: 0.5,
            frames,
            ..Config::new(folder, replica.endpoint(), "vae")
        }
    }

    /// What samples are, one and several.
    const fn samples(&self) -> &'static str {
        match self.clips {
            Some(_) => "clips",
            None => "images",
        }
    }
}

/// The contact sheet of photos.
fn draw<'a>(
    folder: PathBuf,
    batches: impl Iterator<Item = &'a Batch>,
    args: &Args,
) -> anyhow::Result<()> {
    let mut sheet = Sheet {
        folder,
        rows: BTreeMap::new(),
    };
    for batch in batches {
        sheet.add(batch)?;
    }
    let rows: Vec<Vec<Draw>> = sheet.rows.into_values().collect();
    let title = format!(
        "Preheat: {} photos, {EPOCHS} epochs, {}",
        rows.len(),
        args.model()
    );
    let subtitle = "for each epoch, the crop that was encoded and its latent: three strongest \
                    directions of the latents as red, green, blue";
    sheet::write(&rows, [&title, subtitle], &args.output)
}

/// What one epoch took.
struct Epoch {
    took: Duration,
    waited: Duration,
    batches: u64,
    images: u64,
    ready: u64,
    waits: u64,
    /// For the contact sheet, which is drawn only after the clock has stopped.
    kept: Vec<Batch>,
}

fn epoch(loader: &mut DataLoader, what: &'static str, step: Duration) -> anyhow::Result<Epoch> {
    let before = loader.stats();
    let style = ProgressStyle::with_template("{prefix:22} {bar:32} {pos}/{len} batches  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let progress = ProgressBar::new(loader.steps())
        .with_style(style)
        .with_prefix(what);
    let mut kept = Vec::new();
    let start = Instant::now();
    while let Some(batch) = loader.next_batch()? {
        thread::sleep(step);
        progress.set_message(format!("{} ready", loader.stats().ready_batches));
        progress.inc(1);
        if kept.len() < SHEET_PHOTOS {
            kept.push(batch);
        }
    }
    let took = start.elapsed();
    progress.finish();
    let after = loader.stats();
    let batches = after.batches - before.batches;
    ensure!(
        batches > 0,
        "the epoch had no batch: give at least one sample"
    );
    Ok(Epoch {
        took,
        waited: after.waited.saturating_sub(before.waited),
        batches,
        images: after.images - before.images,
        ready: after.ready_when_taken - before.ready_when_taken,
        waits: after.waits - before.waits,
        kept,
    })
}

/// The draws of every photo, by its name.
struct Sheet {
    folder: PathBuf,
    rows: BTreeMap<String, Vec<Draw>>,
}

impl Sheet {
    fn add(&mut self, batch: &Batch) -> anyhow::Result<()> {
        for (index, sample) in batch.samples.iter().enumerate() {
            let known = self.rows.contains_key(&sample.key);
            if sample.padding || (!known && self.rows.len() >= SHEET_PHOTOS) {
                continue;
            }
            let stem = Path::new(&sample.key).file_stem().unwrap_or_default();
            let draw = Draw {
                name: stem.to_string_lossy().into_owned(),
                crop: self.crop(batch, sample)?,
                latent: latent(batch, index)?,
            };
            self.rows.entry(sample.key.clone()).or_default().push(draw);
        }
        Ok(())
    }

    /// The very pixels that the replica encoded.
    fn crop(&self, batch: &Batch, sample: &SampleInfo) -> anyhow::Result<RgbImage> {
        let path = self.folder.join(&sample.key);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let drawn = &sample.transform;
        let transform = image::Transform {
            resize: [drawn.resize.width, drawn.resize.height],
            crop: [drawn.crop_x, drawn.crop_y],
            size: [batch.bucket.width, batch.bucket.height],
            filter: image::Filter::Lanczos,
            flip: drawn.flip,
        };
        let rgb = image::apply(
            image::decode(&bytes, limits::MAX_SOURCE_PIXELS)?,
            &transform,
        )?;
        RgbImage::from_raw(rgb.width, rgb.height, rgb.data).context("a crop of the wrong size")
    }
}

fn latent(batch: &Batch, index: usize) -> anyhow::Result<Latent> {
    let shape = &batch.latents.shape;
    ensure!(
        shape.len() == 4,
        "an image latent has four axes, not {shape:?}"
    );
    let [channels, height, width] = [shape[1], shape[2], shape[3]].map(|side| side as usize);
    let bytes = channels * height * width * 4;
    let values = batch.latents.data[index * bytes..][..bytes]
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    Ok(Latent {
        channels,
        height,
        width,
        values,
    })
}

fn report(args: &Args, loader: &DataLoader, epochs: [&Epoch; 2], pace: Duration) -> Report {
    let mut report = Report::default();
    let names = [
        "flat out".to_owned(),
        format!("step of {:.0} ms", pace.as_secs_f64() * 1e3),
    ];
    let samples = args.samples();
    let rate = format!("{samples}/s");
    let mut columns = vec!["epoch", samples, &rate];
    if args.clips.is_some() {
        columns.push("frames/s");
    }
    columns.extend([
        "batches waited for",
        "waited s",
        "waited %",
        "batches ready",
    ]);
    let rows = names.into_iter().zip(epochs).map(|(name, epoch)| {
        let took = epoch.took.as_secs_f64();
        let rate = epoch.images as f64 / took;
        let mut row: Vec<Cell> = vec![name.into(), (epoch.images as f64).into(), rate.into()];
        if args.clips.is_some() {
            row.push((f64::from(args.frames) * rate).into());
        }
        row.extend([
            format!("{} of {}", epoch.waits, epoch.batches).into(),
            (epoch.waited.as_secs_f64()).into(),
            (100.0 * epoch.waited.as_secs_f64() / took).into(),
            (epoch.ready as f64 / epoch.batches as f64).into(),
        ]);
        row
    });
    let title = match args.clips {
        Some(_) => "Two epochs, a clip of every video in each, from another moment",
        None => "Two epochs, every photo once in each",
    };
    report.table(title, &columns, rows.collect());
    let stats = loader.stats();
    report.figure("sent", stats.sent_bytes as f64 / 1e6, "MB");
    report.figure("received", stats.received_bytes as f64 / 1e6, "MB");
    report.figure("window peak", stats.window_bytes_peak as f64 / 1e6, "MB");
    report.figure("retries", stats.retries as f64, "");
    report.figure("bad samples", stats.bad_samples as f64, "");
    report.note(format!("The picture: {}", args.output.display()));
    report.note(
        "waited: time the consumer spent in next_batch. batches ready: mean depth of the prefetch \
         when one was taken. Flat out leaves nothing ready, so the next epoch may wait for its \
         first batch.",
    );
    if let model @ ("builtin:tiny" | "builtin:wan") = args.model() {
        report.note(format!(
            "{model} is UNTRAINED: its latents show the pipeline and mean nothing."
        ));
    }
    report
}
