//! The demo's clips: where they are, and the frames that were encoded, read from the videos once more.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use image::{RgbImage, imageops};
use preheat_client::{Batch, SampleInfo};
use preheat_clips::{Cut, Encoding, Ffmpeg, Filter, Input, Limits};

use super::{Args, EPOCHS};
use crate::{
    clips,
    sheet::{
        Latent,
        strips::{self, Strip},
    },
};

/// Of each bundled clip: batches enough to see them come, from a different moment each.
const COPIES: usize = 2;
/// Videos on the contact sheet, at most.
const SHEET_VIDEOS: usize = 12;

/// A folder of videos.
pub(super) struct Film {
    ffmpeg: Ffmpeg,
    folder: PathBuf,
    rows: BTreeMap<String, Vec<Strip>>,
}

impl Film {
    /// The folder, or the bundled clips, which are written to `beside`.
    pub(super) fn open(folder: Option<&Path>, beside: &Path) -> anyhow::Result<Self> {
        let ffmpeg = clips::ffmpeg("--clips")?;
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => {
                let folder = beside.join("clips");
                clips::unpack(&folder, COPIES)?;
                folder
            }
        };
        Ok(Self {
            ffmpeg,
            folder,
            rows: BTreeMap::new(),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The contact sheet.
    pub(super) fn draw<'a>(
        &mut self,
        batches: impl Iterator<Item = &'a Batch>,
        args: &Args,
    ) -> anyhow::Result<()> {
        for batch in batches {
            for (index, sample) in batch.samples.iter().enumerate() {
                let known = self.rows.contains_key(&sample.key);
                if sample.padding || (!known && self.rows.len() >= SHEET_VIDEOS) {
                    continue;
                }
                let strip = self.strip(batch, (index, sample));
                let strip = strip.with_context(|| format!("drawing {}", sample.key))?;
                self.rows.entry(sample.key.clone()).or_default().push(strip);
            }
        }
        let rows: Vec<Vec<Strip>> = self.rows.values().cloned().collect();
        let title = format!(
            "Preheat: clips of {} frames out of {} videos, {EPOCHS} epochs, {}",
            args.frames,
            rows.len(),
            args.model()
        );
        let subtitle = "for each epoch, some of the frames that were encoded, and the latent frame of \
                        each: three strongest directions of the latents as red, green, blue";
        strips::write(&rows, [&title, subtitle], &args.output)
    }

    fn strip(&self, batch: &Batch, (index, sample): (usize, &SampleInfo)) -> anyhow::Result<Strip> {
        let clip = sample.clip.as_ref().context("it is no video")?;
        let latents = latents(batch, index)?;
        let moments = moments(clip.times.len(), latents.len());
        let times = moments.iter().map(|&(frame, _)| clip.times[frame]);
        let stem = Path::new(&sample.key).file_stem().unwrap_or_default();
        let label = format!(
            "{} {}x{} epoch {}, from {:.2} s, {} frames",
            stem.to_string_lossy(),
            batch.bucket.width,
            batch.bucket.height,
            batch.epoch,
            clip.start.as_f64(),
            clip.frames.len(),
        );
        Ok(Strip {
            label,
            frames: self.frames(batch, sample, times.collect())?,
            latents: moments.iter().map(|&(_, at)| latents[at].clone()).collect(),
        })
    }

    /// Frames at these times, as the replica encoded them.
    fn frames(
        &self,
        batch: &Batch,
        sample: &SampleInfo,
        times: Vec<i64>,
    ) -> anyhow::Result<Vec<RgbImage>> {
        let input = Input::Path(self.folder.join(&sample.key));
        let (limits, drawn) = (Limits::default(), &sample.transform);
        let [width, height] = [batch.bucket.width, batch.bucket.height];
        let video = self.ffmpeg.probe(&input, &limits)?;
        let cut = Cut {
            resize: Some([drawn.resize.width, drawn.resize.height]),
            crop: Some([drawn.crop_x, drawn.crop_y, width, height]),
            filter: Filter::Lanczos,
            ..Cut::whole(times, Encoding::Rgb8)
        };
        let frames = self.ffmpeg.frames(&input, &video, &cut, &limits)?;
        let frame = |rgb: Result<bytes::Bytes, _>| {
            let frame = RgbImage::from_raw(width, height, rgb?.into());
            let frame = frame.context("a frame of the wrong size")?;
            Ok(match drawn.flip {
                true => imageops::flip_horizontal(&frame),
                false => frame,
            })
        };
        frames.map(frame).collect()
    }
}

/// Pairs of a frame and the latent frame that it ends: evenly, from the first to the last.
fn moments(frames: usize, latents: usize) -> Vec<(usize, usize)> {
    let shown = latents.clamp(1, strips::FRAMES);
    let last = latents.saturating_sub(1);
    let at = |number: usize| number * last / (shown - 1).max(1);
    // A latent frame stands for as many frames as the others, but the first, which stands for one.
    let step = frames.saturating_sub(1).checked_div(last).unwrap_or(0);
    (0..shown).map(|n| (at(n) * step, at(n))).collect()
}

/// The latent frames of one sample.
fn latents(batch: &Batch, index: usize) -> anyhow::Result<Vec<Latent>> {
    let shape = &batch.latents.shape;
    ensure!(
        shape.len() == 5,
        "a clip's latent has five axes, not {shape:?}"
    );
    let [channels, frames, height, width] =
        [shape[1], shape[2], shape[3], shape[4]].map(|side| side as usize);
    let (plane, bytes) = (height * width, 4 * channels * frames * height * width);
    let values: Vec<f32> = batch.latents.data[index * bytes..][..bytes]
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let latent = |frame: usize| Latent {
        channels,
        height,
        width,
        values: (0..channels)
            .flat_map(|channel| &values[(channel * frames + frame) * plane..][..plane])
            .copied()
            .collect(),
    };
    Ok((0..frames).map(latent).collect())
}

#[cfg(test)]
mod tests {
    use super::moments;

    #[test]
    fn frames_stand_above_the_latents_that_they_end() {
        let all = [(0, 0), (4, 1), (8, 2), (12, 3), (16, 4)];
        assert_eq!(moments(17, 5), all);
        assert_eq!(moments(1, 1), [(0, 0)]);
        assert_eq!(moments(9, 2), [(0, 0), (8, 1)]);
        let some = moments(81, 21);
        assert_eq!(some, [(0, 0), (20, 5), (40, 10), (60, 15), (80, 20)]);
        // A VAE that sees single frames.
        assert_eq!(moments(5, 5)[4], (4, 4));
    }
}
