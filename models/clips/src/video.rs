//! What a probe finds out about a file.

use crate::turn::Turn;

/// A stream of video, as a player would show it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Video {
    /// Pixels across, after rotation metadata and the sample aspect ratio.
    pub width: u32,
    /// Pixels down, after rotation metadata.
    pub height: u32,
    /// How far the file asks for its frames to be turned, clockwise: 0, 90, 180 or 270. Frames of
    /// [`Ffmpeg::frames`](crate::Ffmpeg::frames) are turned already.
    pub rotation: u16,
    /// FFmpeg's name: `h264`, `hevc`, `vp9`, `av1`, `mjpeg`, ...
    pub codec: String,
    /// Seconds per tick of `times` and `end`, as a fraction.
    pub time_base: (u32, u32),
    /// Presentation timestamps of the frames that are shown, ascending, each once; never empty.
    /// They need not start at 0.
    pub times: Vec<i64>,
    /// When the last frame's time is over.
    pub end: i64,
    pub(crate) stream: u32,
    pub(crate) turn: Turn,
    /// Width and height in the file, before `turn` and with square pixels.
    pub(crate) lying: [u32; 2],
    /// Whether the samples were square to begin with.
    pub(crate) square: bool,
    /// Timestamps of key frames, ascending.
    pub(crate) keys: Vec<i64>,
    /// The file has no presentation timestamps (AVI with reordered frames): `times` are those of
    /// its slots, and a frame is found by counting from the first.
    pub(crate) counted: bool,
    /// Something that cannot be decoded is stored before the first key frame.
    pub(crate) led: bool,
}

impl Video {
    /// Seconds of a timestamp, for messages and statistics (rounded to f64).
    #[must_use]
    pub fn seconds(&self, time: i64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "for people; exact up to 2^53 ticks"
        )]
        let ticks = time as f64;
        ticks * f64::from(self.time_base.0) / f64::from(self.time_base.1)
    }

    /// Seconds from the first frame to the end of the last.
    #[must_use]
    pub fn duration(&self) -> f64 {
        self.seconds(self.end) - self.times.first().map_or(0.0, |&first| self.seconds(first))
    }
}

impl Video {
    /// Whether [`Encoding::Source`](crate::Encoding::Source) can be had: MJPEG, upright, with square
    /// pixels.
    #[must_use]
    pub fn is_jpegs(&self) -> bool {
        self.codec == "mjpeg" && self.upright()
    }

    pub(crate) fn upright(&self) -> bool {
        self.turn == Turn::default() && self.square
    }
}
