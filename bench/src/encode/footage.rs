//! Frames of the sample clips, as a loader would send them.

use anyhow::ensure;
use bytes::Bytes;
use preheat_clips::{Cut, Encoding, Ffmpeg, Filter, Input, Limits};
use preheat_models::{PixelData, Pixels, image};

use crate::clips;

/// The sample clips that were not made of JPEGs, each up to so many frames.
pub(super) struct Footage {
    ffmpeg: Ffmpeg,
    clips: Vec<(String, Input)>,
}

impl Footage {
    /// # Errors
    /// Where there is no FFmpeg.
    pub(super) fn open() -> anyhow::Result<Self> {
        let ffmpeg = clips::ffmpeg("--frames")?;
        let held = |(name, bytes): (std::path::PathBuf, &'static [u8])| {
            let name = name.file_stem().unwrap_or_default().to_string_lossy();
            (name.into_owned(), Input::Bytes(Bytes::from_static(bytes)))
        };
        Ok(Self {
            ffmpeg,
            clips: clips::videos().into_iter().map(held).collect(),
        })
    }

    /// How many clips there are.
    pub(super) fn len(&self) -> usize {
        self.clips.len()
    }

    /// Name of a clip, and its first `frames` at a square size, in the form in which they travel. Past
    /// its end it goes backwards, and so on.
    pub(super) fn frames(
        &self,
        clip: usize,
        (size, frames): (u32, usize),
        encoding: Encoding,
    ) -> anyhow::Result<(&str, Vec<Bytes>)> {
        let (name, input) = &self.clips[clip % self.clips.len()];
        let limits = Limits::default();
        let video = self.ffmpeg.probe(input, &limits)?;
        let source = [video.width, video.height];
        let whole = image::cover(source, [size; 2], image::Filter::Lanczos);
        let count = video.times.len().min(frames);
        let cut = Cut {
            resize: Some(whole.resize),
            crop: Some([whole.crop[0], whole.crop[1], size, size]),
            filter: Filter::Lanczos,
            ..Cut::whole(video.times[..count].to_vec(), encoding)
        };
        let there = self.ffmpeg.frames(input, &video, &cut, &limits)?;
        let there: Vec<Bytes> = there.collect::<Result<_, _>>()?;
        let turn = |at: usize| {
            let round = at % (2 * count - 2).max(1);
            there[round.min((2 * count - 2).saturating_sub(round))].clone()
        };
        Ok((name, (0..frames).map(turn).collect()))
    }

    /// A batch of clips.
    pub(super) fn pixels(&self, size: u32, batch: usize, frames: usize) -> anyhow::Result<Pixels> {
        let mut rgb = Vec::new();
        for clip in 0..batch {
            let (_, frames) = self.frames(clip, (size, frames), Encoding::Rgb8)?;
            frames.iter().for_each(|frame| rgb.extend_from_slice(frame));
        }
        Ok(pixels(size, (batch, frames), rgb))
    }
}

/// One clip of frames that were sent as pictures, decoded as a replica does.
pub(super) fn decoded(size: u32, frames: &[Bytes]) -> anyhow::Result<Pixels> {
    let mut rgb = Vec::new();
    for frame in frames {
        let picture = image::decode(frame, u64::MAX)?;
        ensure!(
            [picture.width, picture.height] == [size; 2],
            "a frame of {}x{}",
            picture.width,
            picture.height
        );
        rgb.extend(picture.data);
    }
    Ok(pixels(size, (1, frames.len()), rgb))
}

fn pixels(size: u32, (batch, frames): (usize, usize), rgb: Vec<u8>) -> Pixels {
    Pixels {
        batch,
        frames,
        height: size as usize,
        width: size as usize,
        data: PixelData::Rgb8(rgb),
    }
}
