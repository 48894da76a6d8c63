//! Which stream is the video, and how it is shown.

use super::{lines::fields, packets::Shown};
use crate::{ClipError, Limits, Video, turn::Turn};

/// A stream of video as ffprobe describes it.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) index: u32,
    codec: String,
    width: u32,
    height: u32,
    /// Width of a sample over its height; 0 is not known.
    aspect: (u32, u32),
    time_base: (u32, u32),
    default: bool,
    /// A picture of the cover.
    attached: bool,
    turn: Turn,
}

impl Stream {
    pub(super) fn line(line: &str) -> Option<Self> {
        let mut stream = Self::default();
        for (key, value) in fields(line) {
            match key {
                "index" => stream.index = value.parse().ok()?,
                "codec_name" => value.clone_into(&mut stream.codec),
                "width" => stream.width = value.parse().unwrap_or(0),
                "height" => stream.height = value.parse().unwrap_or(0),
                "sample_aspect_ratio" => stream.aspect = ratio(value, ':').unwrap_or((0, 0)),
                "time_base" => stream.time_base = ratio(value, '/')?,
                "disposition:default" => stream.default = value == "1",
                "disposition:attached_pic" => stream.attached = value == "1",
                _ if key.ends_with("displaymatrix") => stream.turn = matrix(value),
                _ => {}
            }
        }
        Some(stream)
    }

    /// The first that is marked as default, else the first; pictures of the cover do not count.
    pub(super) fn choose(streams: &[Self]) -> Option<&Self> {
        let real = || streams.iter().filter(|stream| !stream.attached);
        real()
            .find(|stream| stream.default)
            .or_else(|| real().next())
    }

    pub(super) fn check(&self, limits: &Limits) -> Result<(), ClipError> {
        let [width, height] = self.square();
        let not_video = |reason: &str| ClipError::NotVideo {
            reason: format!("{reason} (codec {})", self.codec),
        };
        if self.time_base.0 == 0 || self.time_base.1 == 0 {
            return Err(not_video("its stream has no time base"));
        }
        if self.width == 0 || self.height == 0 {
            return Err(not_video("its stream has no width and height"));
        }
        let pixels = u64::from(self.width) * u64::from(self.height);
        if pixels.max(u64::from(width) * u64::from(height)) > limits.source_pixels {
            return Err(ClipError::TooLarge {
                what: "a frame",
                is: format!("{}x{} pixels", self.width, self.height),
                most: format!("{} pixels", limits.source_pixels),
            });
        }
        Ok(())
    }

    /// Width and height with square pixels: the height stays.
    fn square(&self) -> [u32; 2] {
        let (across, down) = self.aspect;
        if across == 0 || down == 0 || across == down {
            return [self.width, self.height];
        }
        let (width, across, down) = (u64::from(self.width), u64::from(across), u64::from(down));
        let width = (width * across + down / 2) / down;
        [u32::try_from(width).unwrap_or(u32::MAX).max(1), self.height]
    }

    pub(super) fn video(&self, shown: Shown) -> Video {
        let lying = self.square();
        let [width, height] = self.turn.size(lying);
        Video {
            width,
            height,
            rotation: self.turn.degrees(),
            codec: self.codec.clone(),
            time_base: self.time_base,
            times: shown.times,
            end: shown.end,
            stream: self.index,
            turn: self.turn,
            lying,
            square: lying == [self.width, self.height],
            keys: shown.keys,
            counted: shown.counted,
            led: shown.led,
        }
    }
}

/// `30000/1001`.
fn ratio(text: &str, between: char) -> Option<(u32, u32)> {
    let (above, below) = text.split_once(between)?;
    Some((above.parse().ok()?, below.parse().ok()?))
}

/// `\n00000000: 0 65536 0\n00000001: -65536 0 0\n...`, as ffprobe writes a matrix.
fn matrix(text: &str) -> Turn {
    let rows: Vec<Vec<i64>> = text
        .split("\\n")
        .filter_map(|row| row.split_once(": "))
        .map(|(_, row)| {
            row.split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect()
        })
        .collect();
    match rows.as_slice() {
        [first, second, ..] if first.len() >= 2 && second.len() >= 2 => {
            Turn::from_matrix([first[0], first[1], second[0], second[1]])
        }
        _ => Turn::default(),
    }
}
