//! Which frames, in which size, in which form.

use crate::{ClipError, Limits, Video};

/// Frames of one cut at most: their timestamps travel on FFmpeg's command line, of which one
/// argument holds 128 KiB.
pub const MAX_CUT_FRAMES: usize = 4096;

/// What is wanted of a video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Timestamps out of [`Video::times`], ascending; one that is there twice is answered twice.
    pub times: Vec<i64>,
    /// Scale the whole upright frame to this `[width, height]`; `None` leaves it as it is shown.
    pub resize: Option<[u32; 2]>,
    /// Then cut out `[x, y, width, height]`; `None` takes all.
    pub crop: Option<[u32; 4]>,
    /// How to scale.
    pub filter: Filter,
    /// What each frame becomes.
    pub encoding: Encoding,
}

impl Cut {
    /// These frames in the size in which they are shown.
    #[must_use]
    pub const fn whole(times: Vec<i64>, encoding: Encoding) -> Self {
        Self {
            times,
            resize: None,
            crop: None,
            filter: Filter::Bicubic,
            encoding,
        }
    }
}

/// A filter for scaling, antialiased when it makes smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// A triangle.
    Bilinear,
    /// Catmull-Rom (a = -0.5), as Pillow's.
    #[default]
    Bicubic,
    /// Three lobes.
    Lanczos,
}

/// What a frame becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// A JPEG with the tables of the Independent JPEG Group at this quality, 1 to 100; colours in
    /// full resolution from 90 on, else halved both ways (4:2:0).
    Jpeg {
        /// 95 is near lossless for training.
        quality: u8,
    },
    /// A PNG, RGB of 8 bits.
    Png,
    /// Bytes `height x width x 3`, RGB.
    Rgb8,
    /// The stream's own JPEGs, not decoded; only where the codec is MJPEG, upright, with square
    /// pixels, and neither resize nor crop.
    Source,
}

impl Cut {
    /// Width and height of what comes out; an error where the video cannot give this.
    pub(crate) fn size(&self, video: &Video, limits: &Limits) -> Result<[u32; 2], ClipError> {
        self.check_times(video)?;
        self.check_encoding(video)?;
        let [width, height] = self.resize.unwrap_or([video.width, video.height]);
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 {
            return Err(bad(format!("resizing to {width}x{height} leaves no pixel")));
        }
        if pixels > limits.source_pixels {
            return Err(bad(format!(
                "resizing to {width}x{height} passes the limit of {} pixels",
                limits.source_pixels
            )));
        }
        let Some([x, y, w, h]) = self.crop else {
            return Ok([width, height]);
        };
        let inside = |at: u32, length: u32, all: u32| {
            length > 0 && at.checked_add(length).is_some_and(|end| end <= all)
        };
        if inside(x, w, width) && inside(y, h, height) {
            Ok([w, h])
        } else {
            Err(bad(format!(
                "a crop of {w}x{h} at ({x}, {y}) is not inside {width}x{height}"
            )))
        }
    }

    fn check_times(&self, video: &Video) -> Result<(), ClipError> {
        if self.times.is_empty() {
            return Err(bad("no timestamps: ask for at least one".into()));
        }
        if self.times.len() > MAX_CUT_FRAMES {
            return Err(bad(format!(
                "{} frames: one cut takes at most {MAX_CUT_FRAMES}",
                self.times.len()
            )));
        }
        if !self.times.is_sorted() {
            return Err(bad("timestamps must ascend".into()));
        }
        for &time in &self.times {
            if video.times.binary_search(&time).is_err() {
                return Err(bad(format!(
                    "no frame has the timestamp {time}: the video has {} from {:?} to {:?}, in \
                     ticks of {}/{} s",
                    video.times.len(),
                    video.times.first(),
                    video.times.last(),
                    video.time_base.0,
                    video.time_base.1
                )));
            }
        }
        Ok(())
    }

    fn check_encoding(&self, video: &Video) -> Result<(), ClipError> {
        match self.encoding {
            Encoding::Jpeg { quality } if !(1..=100).contains(&quality) => {
                Err(bad(format!("JPEG quality {quality}: use 1 to 100")))
            }
            Encoding::Source if video.codec != "mjpeg" => Err(bad(format!(
                "the frames of {} are no files by themselves: ask for JPEG, PNG or RGB",
                video.codec
            ))),
            Encoding::Source if !video.upright() => Err(bad(
                "the JPEGs in this video are turned or not of square pixels: ask for JPEG, PNG or \
                 RGB"
                .into(),
            )),
            Encoding::Source if self.resize.is_some() || self.crop.is_some() => Err(bad(
                "frames that are passed through are neither resized nor cropped".into(),
            )),
            _ => Ok(()),
        }
    }
}

fn bad(reason: String) -> ClipError {
    ClipError::Cut { reason }
}
