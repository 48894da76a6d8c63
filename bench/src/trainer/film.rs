//! Training on clips: which, and out of which videos.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::dataset::progress;
use crate::clips;

/// Different videos that are made; the others have the same bytes, in files of their own.
const DIFFERENT: u32 = 12;

/// Options of `preheat-bench trainer` for clips.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Film {
    /// Train on clips of so many frames, out of videos made for the run, or those of --dataset; with
    /// several, on the longest that a video gives. Needs FFmpeg.
    #[arg(long, value_name = "N,...", value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) frames: Vec<u32>,
    /// Videos that are made, of 121 frames each, 24 a second.
    #[arg(long, value_name = "N", default_value = "48", conflicts_with = "dataset",
        requires = "frames", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    videos: u32,
    /// What they are: JPEGs are sent as they lie, H.264 is decoded on this machine.
    #[arg(
        long,
        value_name = "CODEC",
        default_value = "h264",
        requires = "frames"
    )]
    codec: clips::Codec,
    /// Their width and height.
    #[arg(long, value_name = "WxH", default_value = "640x360", value_parser = sides,
        requires = "frames")]
    video_size: [u32; 2],
}

/// How samples are called.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) per_second: &'static str,
    pub(super) milliseconds: &'static str,
}

impl Film {
    /// How samples are counted.
    pub(super) const fn unit(&self) -> Unit {
        let clips = !self.frames.is_empty();
        Unit {
            per_second: if clips { "clips/s" } else { "images/s" },
            milliseconds: if clips { "ms/clip" } else { "ms/image" },
        }
    }

    /// Makes the videos, and says what they are.
    ///
    /// # Errors
    /// Where there is no FFmpeg, or no room.
    pub(super) fn make(&self, folder: &Path) -> anyhow::Result<String> {
        let ffmpeg = clips::ffmpeg("--frames")?;
        let progress = progress(self.videos.into(), "making videos");
        let mut different: Vec<PathBuf> = Vec::new();
        for number in 0..self.videos {
            if number < DIFFERENT {
                let place = (folder, number as usize);
                different.push(clips::footage(&ffmpeg, place, self.codec, self.video_size)?);
            } else {
                let like = &different[(number % DIFFERENT) as usize];
                let path = like.with_file_name(format!("{number:05}"));
                let path = path.with_extension(like.extension().unwrap_or_default());
                fs::copy(like, &path).with_context(|| format!("writing {}", path.display()))?;
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        let (videos, [width, height]) = (self.videos, self.video_size);
        let frames: Vec<String> = self.frames.iter().map(u32::to_string).collect();
        let frames = frames.join(" or ");
        let codec = match self.codec {
            clips::Codec::H264 => "H.264",
            clips::Codec::Mjpeg => "MJPEG",
        };
        Ok(format!(
            "clips of {frames} frames out of {videos} made videos ({codec}, {width}x{height})"
        ))
    }
}

fn sides(text: &str) -> anyhow::Result<[u32; 2]> {
    let sides = text.split_once('x').context("write WIDTHxHEIGHT")?;
    let side = |text: &str| text.parse().context("write WIDTHxHEIGHT");
    let sides: [u32; 2] = [side(sides.0)?, side(sides.1)?];
    // What all encoders can do.
    let odd = |side: &u32| !side.is_multiple_of(2) || !(64..=4096).contains(side);
    if sides.iter().any(odd) {
        bail!("both must be even, and 64 to 4096");
    }
    Ok(sides)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::tests::parse;

    #[test]
    fn sizes_are_read() {
        assert_eq!(sides("640x360").unwrap(), [640, 360]);
        for bad in ["640", "641x360", "8x8", "x", "640x99999"] {
            assert!(sides(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn clips_are_asked_for_by_their_frames() {
        let start = ["x", "--start", "synthetic"];
        let args = parse(&[&start[..], &["--frames", "17,33"]].concat()).unwrap();
        assert_eq!(args.film.frames, [17, 33]);
        assert_eq!(args.film.unit().per_second, "clips/s");
        for bad in [
            &["--videos", "3"][..],
            &["--frames", "0"],
            &["--frames", "5", "--codec", "gif"],
            &["--frames", "5", "--dataset", "d", "--videos", "3"],
        ] {
            assert!(parse(&[&start[..], bad].concat()).is_err(), "{bad:?}");
        }
    }
}
