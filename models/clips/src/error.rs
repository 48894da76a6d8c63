//! What can go wrong with a clip, with FFmpeg, or with what was asked for.

use std::{path::PathBuf, time::Duration};

/// Why a clip has no frames to give. The caller adds the name of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClipError {
    /// No FFmpeg on this machine.
    #[error(
        "`{program}` is not found ({looked}): install FFmpeg (`apt install ffmpeg`, `brew install \
         ffmpeg`), or name the binaries in PREHEAT_FFMPEG and PREHEAT_FFPROBE"
    )]
    Missing {
        /// `ffmpeg` or `ffprobe`.
        program: &'static str,
        /// Where it was looked for.
        looked: String,
    },
    /// An FFmpeg that is too old, or a program that is no FFmpeg.
    #[error(
        "{} says `{said}`: FFmpeg {oldest} or newer is needed; install one, or name it in \
         PREHEAT_FFMPEG and PREHEAT_FFPROBE", .program.display()
    )]
    Version {
        /// The binary.
        program: PathBuf,
        /// Its answer to `-version`.
        said: String,
        /// The oldest that will do.
        oldest: &'static str,
    },
    /// An FFmpeg that was built without something.
    #[error("this FFmpeg lacks what is needed ({said}): install a complete one")]
    Lacking {
        /// What it said.
        said: String,
    },
    /// A file that is none of the containers that are read, or has no stream of video in it.
    #[error("not a video that can be read: {reason}")]
    NotVideo {
        /// What it is instead.
        reason: String,
    },
    /// A file that is not there any more, or may not be read.
    #[error("the video cannot be read: {source}")]
    Unreadable {
        /// Why.
        source: std::io::Error,
    },
    /// A frame whose JPEG is two fields, which decoders of JPEG take for half a picture: it cannot be
    /// had as it lies in the file.
    #[error(
        "its JPEG is two fields of an interlaced picture at {at:.3} s: ask for JPEG, PNG or RGB"
    )]
    Fields {
        /// Seconds on the clip's own clock.
        at: f64,
    },
    /// A stream of video without one frame that is shown.
    #[error("the video has no frames: {reason}")]
    NoFrames {
        /// What was found.
        reason: String,
    },
    /// A file that ends too early, or whose frames do not decode.
    #[error("damaged at {at:.3} s: {reason}")]
    Damaged {
        /// Seconds on the clip's own clock.
        at: f64,
        /// What FFmpeg said, or what is missing.
        reason: String,
    },
    /// More pixels, frames or seconds than the limits allow.
    #[error("too large: {what} is {is}, and at most {most} is taken")]
    TooLarge {
        /// Of what there is too much.
        what: &'static str,
        /// How much there is.
        is: String,
        /// How much there may be.
        most: String,
    },
    /// FFmpeg did not finish in the time that it is given.
    #[error(
        "FFmpeg was ended after {} s of {what} at {at:.3} s of the clip: the file makes it hang, or \
         the limit is too small for it", .limit.as_secs_f64()
    )]
    Timeout {
        /// Of which time: waiting, or processor time.
        what: &'static str,
        /// The limit.
        limit: Duration,
        /// Seconds on the clip's own clock: the first frame that did not come.
        at: f64,
    },
    /// FFmpeg wanted more memory than it is given.
    #[error(
        "FFmpeg needs more than {} MiB of memory at {at:.3} s: {said}", .limit >> 20
    )]
    Memory {
        /// Bytes.
        limit: u64,
        /// Seconds on the clip's own clock: the first frame that did not come.
        at: f64,
        /// What it said last.
        said: String,
    },
    /// FFmpeg died, or answered what FFmpeg does not answer.
    #[error("FFmpeg {how} at {at:.3} s: {said}")]
    Crashed {
        /// By which signal or with which status.
        how: String,
        /// Seconds on the clip's own clock: the first frame that did not come.
        at: f64,
        /// What it said last.
        said: String,
    },
    /// [`Stop::stop`](crate::Stop::stop) was called.
    #[error("stopped from outside")]
    Stopped,
    /// A cut that this video cannot give: the caller's mistake.
    #[error("this cut cannot be made: {reason}")]
    Cut {
        /// What does not fit, and what would.
        reason: String,
    },
    /// The machine's own trouble: no process, no file, no pipe.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it could not be.
        source: std::io::Error,
    },
}

impl ClipError {
    /// The same, at this time of the clip.
    #[must_use]
    pub(crate) fn at(mut self, seconds: f64) -> Self {
        match &mut self {
            Self::Damaged { at, .. }
            | Self::Fields { at }
            | Self::Timeout { at, .. }
            | Self::Memory { at, .. }
            | Self::Crashed { at, .. } => *at = seconds,
            _ => {}
        }
        self
    }

    /// Whether the file is to blame, so that the bad-sample policy applies; where not, the machine
    /// or the caller is, and other clips will fail as well.
    #[must_use]
    pub const fn blames_clip(&self) -> bool {
        !matches!(
            self,
            Self::Missing { .. }
                | Self::Version { .. }
                | Self::Lacking { .. }
                | Self::Cut { .. }
                | Self::Io { .. }
                | Self::Stopped
        )
    }
}
