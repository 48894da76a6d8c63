//! What sending frames as JPEG does to latents: the same clips sent without loss and as JPEG of some
//! quality, decoded as a replica does, and encoded.

use anyhow::{Context as _, ensure};
use preheat_clips::Encoding;
use preheat_models::{Encoder, Pixels, Posterior, Scale};

use super::{
    Args, Lane,
    footage::{self, Footage},
};
use crate::report::{Cell, Report};

/// Means of one clip, as the diffusion model sees them, and the variance of its posterior.
struct Latent {
    mean: Vec<f32>,
    /// Sum of the variances, in the same scale; `None` without a posterior.
    noise: Option<f64>,
}

/// Sums over the clips for one quality.
#[derive(Default)]
struct Change {
    off: f64,
    of: f64,
    worst: f64,
    bytes: usize,
    lossless_bytes: usize,
    frames: usize,
    noise: f64,
}

/// A row for each model dtype, size and quality.
///
/// # Errors
/// Where the model cannot encode clips of this length and size.
pub(super) fn run(args: &Args, lanes: &mut [Lane], footage: &Footage) -> anyhow::Result<Report> {
    let qualities = &args.jpeg;
    ensure!(
        qualities.iter().all(|quality| (1..=100).contains(quality)),
        "--jpeg takes qualities from 1 to 100"
    );
    let mut rows = Vec::new();
    let mut untrained = false;
    for lane in lanes {
        let model = lane.ours.as_mut();
        untrained |= model.spec().untrained;
        for &size in &args.size {
            let mut changes: Vec<Change> = qualities.iter().map(|_| Change::default()).collect();
            for clip in 0..footage.len() {
                let what = (size, args.frames);
                let (name, lossless) = footage.frames(clip, what, Encoding::Png)?;
                let right = latent(model, &footage::decoded(size, &lossless)?);
                let right = right.with_context(|| name.to_owned())?;
                for (&quality, change) in qualities.iter().zip(&mut changes) {
                    let (_, sent) = footage.frames(clip, what, Encoding::Jpeg { quality })?;
                    let got = latent(model, &footage::decoded(size, &sent)?)?;
                    change.add(&right, &got);
                    change.frames += sent.len();
                    let bytes =
                        |frames: &[bytes::Bytes]| frames.iter().map(|f| f.len()).sum::<usize>();
                    change.bytes += bytes(&sent);
                    change.lossless_bytes += bytes(&lossless);
                }
            }
            let dtype = model.spec().dtype.to_string();
            let rest = (model.spec().class.clone(), size, dtype);
            rows.extend(
                qualities
                    .iter()
                    .zip(&changes)
                    .map(|(&q, c)| c.row(&rest, q)),
            );
        }
    }
    let mut report = Report::default();
    let title = format!(
        "{}: {} clips of {} frames, sent as JPEG instead of lossless",
        args.model,
        footage.len(),
        args.frames
    );
    let columns = [
        "class",
        "size",
        "dtype",
        "quality",
        "KiB/frame",
        "of PNG",
        "change of latents",
        "worst clip",
        "posterior's noise",
    ];
    report.table(&title, &columns, rows);
    report.note(
        "change of latents: relative L2, over all clips, of normalised posterior means; posterior's noise: \
         what one draw adds to them, in the same measure",
    );
    if untrained {
        report.note("This model is untrained: what it makes of JPEG's errors need not be what a trained one does.");
    }
    Ok(report)
}

fn latent(model: &mut dyn Encoder, pixels: &Pixels) -> anyhow::Result<Latent> {
    let moments = model.encode(pixels)?;
    let spec = model.spec();
    moments.check(0, spec.dtype)?;
    let mean = moments.latent(0, spec, Posterior::Mode, Scale::Normalized);
    let noise = spec.has_posterior.then(|| {
        // A draw less its mean, whatever the scale; one draw of so many values is as good as all.
        let draw = moments.latent(0, spec, Posterior::Sample(0), Scale::Normalized);
        squares(mean.iter().zip(&draw))
    });
    Ok(Latent { mean, noise })
}

fn squares<'a>(pairs: impl Iterator<Item = (&'a f32, &'a f32)>) -> f64 {
    pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

impl Change {
    fn add(&mut self, right: &Latent, got: &Latent) {
        let off = squares(right.mean.iter().zip(&got.mean));
        let of: f64 = right.mean.iter().map(|&v| f64::from(v).powi(2)).sum();
        self.off += off;
        self.of += of;
        self.worst = self.worst.max((off / of).sqrt());
        self.noise += right.noise.unwrap_or(f64::NAN);
    }

    fn row(&self, (class, size, dtype): &(String, u32, String), quality: u8) -> Vec<Cell> {
        let share = |part: f64| Cell::from(format!("{:.2e}", (part / self.of).sqrt()));
        vec![
            class.clone().into(),
            format!("{size}x{size}").into(),
            dtype.clone().into(),
            f64::from(quality).into(),
            (self.bytes as f64 / 1024.0 / self.frames.max(1) as f64).into(),
            (self.bytes as f64 / self.lossless_bytes.max(1) as f64).into(),
            share(self.off),
            format!("{:.2e}", self.worst).into(),
            match self.noise.is_nan() {
                true => "none".into(),
                false => share(self.noise),
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_is_relative_to_all_clips_together() {
        let of = |mean: &[f32]| Latent {
            mean: mean.to_vec(),
            noise: Some(4.0),
        };
        let mut change = Change::default();
        change.add(&of(&[3.0, 4.0]), &of(&[3.0, 3.0]));
        change.add(&of(&[0.0, 5.0]), &of(&[0.0, 5.0]));
        assert!((change.worst - 0.2).abs() < 1e-9);
        assert!(((change.off / change.of).sqrt() - 0.02_f64.sqrt()).abs() < 1e-9);
        assert!((change.noise - 8.0).abs() < 1e-9);
    }
}
