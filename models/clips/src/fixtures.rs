//! Clips whose frames carry their numbers, for tests: what is read back is the frame that was asked
//! for, or it is not.

mod numbers;
mod rotate;

use std::{
    io::{Error, Result, Seek, SeekFrom, Write},
    path::Path,
    process::{Command, Stdio},
};

pub use numbers::{Pattern, read_blocks, read_colour};

use crate::Ffmpeg;

/// The FFmpeg of this machine; none where there is none, and then the test may pass over what it has
/// to show, after a line that says so.
///
/// # Panics
///
/// Where there is none and `PREHEAT_REQUIRE_FFMPEG` is 1.
#[must_use]
#[expect(clippy::print_stderr, clippy::panic, reason = "for tests")]
pub fn ffmpeg() -> Option<Ffmpeg> {
    match Ffmpeg::find() {
        Ok(ffmpeg) => Some(ffmpeg),
        Err(error) if std::env::var_os("PREHEAT_REQUIRE_FFMPEG").is_some_and(|v| v == "1") => {
            panic!("PREHEAT_REQUIRE_FFMPEG is 1, and {error}")
        }
        Err(error) => {
            eprintln!("NOT TESTED: {error}");
            None
        }
    }
}

/// How a clip is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// By libx264, with B-frames.
    H264,
    /// By libx265, with B-frames.
    H265,
    /// By libvpx.
    Vp9,
    /// By SVT-AV1 or libaom.
    Av1,
    /// By FFmpeg.
    Mjpeg,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::H264, Self::H265, Self::Vp9, Self::Av1, Self::Mjpeg];

    /// The first of its encoders that this FFmpeg has.
    fn encoder(self, ffmpeg: &Ffmpeg) -> Option<&'static str> {
        let names: &[&str] = match self {
            Self::H264 => &["libx264"],
            Self::H265 => &["libx265"],
            Self::Vp9 => &["libvpx-vp9"],
            Self::Av1 => &["libsvtav1", "libaom-av1"],
            Self::Mjpeg => &["mjpeg"],
        };
        let listed = Command::new(ffmpeg.ffmpeg())
            .args(["-hide_banner", "-v", "error", "-encoders"])
            .output()
            .ok()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let has = |name: &str| listed.split_whitespace().any(|word| word == name);
        names.iter().copied().find(|name| has(name))
    }

    fn options(encoder: &str) -> &'static [&'static str] {
        match encoder {
            "libx264" => &["-preset", "veryfast", "-bf", "3"],
            "libx265" => &["-preset", "veryfast", "-x265-params", "log-level=none"],
            "libvpx-vp9" => &["-deadline", "realtime", "-cpu-used", "8", "-b:v", "2M"],
            "libsvtav1" => &["-preset", "12", "-crf", "30"],
            "libaom-av1" => &[
                "-cpu-used",
                "8",
                "-usage",
                "realtime",
                "-crf",
                "30",
                "-b:v",
                "0",
            ],
            _ => &["-q:v", "2", "-huffman", "default"],
        }
    }
}

/// A clip to be made.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// How it is compressed.
    pub codec: Codec,
    /// Frames a second, as a fraction.
    pub rate: (u32, u32),
    /// How many; their numbers are 0, 1, 2, ...
    pub frames: u32,
    /// Width and height as it is shown, after the rotation. Where one is odd, H.264 and H.265 keep
    /// colours in full resolution, since they cannot do else.
    pub size: [u32; 2],
    /// Degrees clockwise by which a player must turn it: 0, or in mp4 also 90, 180 and 270.
    pub rotation: u16,
    /// Frames from one key frame to the next.
    pub group: u32,
    /// How a number is drawn.
    pub pattern: Pattern,
    /// Where not empty: milliseconds that each frame lasts, over and over, instead of `rate`.
    pub lasts: Vec<u32>,
    /// More options for FFmpeg, before the output's name.
    pub options: Vec<String>,
}

impl Numbered {
    /// So many frames, 25 a second, 128 by 96, blocks, a key frame at every twelfth.
    #[must_use]
    pub const fn new(codec: Codec, frames: u32) -> Self {
        Self {
            codec,
            rate: (25, 1),
            frames,
            size: [128, 96],
            rotation: 0,
            group: 12,
            pattern: Pattern::Blocks,
            lasts: Vec::new(),
            options: Vec::new(),
        }
    }

    /// Makes the file; its extension says the container: mp4, mov, mkv, webm or avi. False where this
    /// FFmpeg cannot encode that codec.
    ///
    /// # Errors
    ///
    /// A file that cannot be written, and FFmpeg's refusals.
    pub fn write(&self, ffmpeg: &Ffmpeg, path: &Path) -> Result<bool> {
        let Some(encoder) = self.codec.encoder(ffmpeg) else {
            return Ok(false);
        };
        let mut raw = tempfile::tempfile()?;
        for number in 0..self.frames {
            let upright = self.pattern.draw(number, self.size);
            raw.write_all(&rotate::stored(&upright, self.size, self.rotation))?;
        }
        raw.seek(SeekFrom::Start(0))?;
        let [width, height] = rotate::size(self.size, self.rotation);
        let odd = width % 2 + height % 2 > 0;
        let full = odd && matches!(self.codec, Codec::H264 | Codec::H265);
        let group = self.group.to_string();
        let made = Command::new(ffmpeg.ffmpeg())
            .args(["-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"])
            .args(["-s", &format!("{width}x{height}")])
            .args(["-r", &format!("{}/{}", self.rate.0, self.rate.1)])
            .args(["-i", "pipe:0"])
            .args(self.timing(ffmpeg))
            .args(["-c:v", encoder, "-g", &group])
            .args(Codec::options(encoder))
            .args(["-pix_fmt", self.pixels(full)])
            .args(&self.options)
            .arg(path)
            .stdin(Stdio::from(raw))
            .output()?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(Error::other(format!("{encoder}: {said}")));
        }
        if self.rotation != 0 {
            rotate::mark(path, self.rotation)?;
        }
        Ok(true)
    }

    fn pixels(&self, full: bool) -> &'static str {
        match (self.codec, full) {
            (Codec::Mjpeg, _) => "yuvj420p",
            (_, true) => "yuv444p",
            _ => "yuv420p",
        }
    }

    /// Timestamps of a variable rate, as an expression of the frame's number.
    fn timing(&self, ffmpeg: &Ffmpeg) -> Vec<String> {
        if self.lasts.is_empty() {
            return Vec::new();
        }
        let round: u32 = self.lasts.iter().sum();
        let count = self.lasts.len();
        let mut expression = format!("trunc(N/{count})*{round}");
        let mut at = 0;
        for (position, lasts) in self.lasts.iter().enumerate() {
            expression.push_str(&format!("+eq(mod(N,{count}),{position})*{at}"));
            at += lasts;
        }
        let filter = format!("settb=1/1000,setpts='{expression}'");
        let [every, frame] = ffmpeg.every_frame();
        let options = ["-vf", &filter, every, frame, "-enc_time_base", "1:1000"];
        options.map(str::to_owned).into()
    }

    /// When each frame is shown, in milliseconds, where `lasts` says so.
    #[must_use]
    pub fn shown_at(&self) -> Vec<i64> {
        let lasts = self.lasts.iter().cycle();
        lasts
            .scan(0, |at, &lasts| {
                let now = *at;
                *at += i64::from(lasts);
                Some(now)
            })
            .take(self.frames as usize)
            .collect()
    }
}
