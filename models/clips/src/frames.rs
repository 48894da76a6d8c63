//! The frames of a cut, one after the other, while FFmpeg works on the next ones.

use std::ffi::OsString;

use bytes::Bytes;

use crate::{
    ClipError, Cut, Encoding, Ffmpeg, Input, Limits, Video,
    child::Child,
    encode::encode,
    graph::graph,
    input::NAME,
    probe::CONTAINERS,
    said::LEVEL_FRAMES,
    source::{ready, source_frame},
};

/// The frames of a [`Cut`], in its order, one for each of its timestamps. After an error nothing
/// more comes. Dropping it ends the process, whatever that is doing.
///
/// FFmpeg waits while nobody asks for frames: memory is that of a few frames, whatever the length.
#[derive(Debug)]
pub struct Frames {
    ffmpeg: Ffmpeg,
    input: Input,
    video: Video,
    cut: Cut,
    limits: Limits,
    size: [u32; 2],
    /// The timestamps, each once.
    wanted: Vec<i64>,
    child: Option<Child>,
    /// Position in `cut.times`.
    at: usize,
    /// Position in `wanted`.
    done: usize,
    last: Option<Bytes>,
    /// The process began at a key frame that the container's index names, not at the start.
    seeked: bool,
}

impl Ffmpeg {
    /// The frames of a cut of a video, as an iterator that decodes while it is read.
    ///
    /// # Errors
    ///
    /// [`ClipError::Cut`] where the video cannot give this cut; no process, no temporary file. All
    /// else comes from the iterator.
    pub fn frames(
        &self,
        input: &Input,
        video: &Video,
        cut: &Cut,
        limits: &Limits,
    ) -> Result<Frames, ClipError> {
        let size = cut.size(video, limits)?;
        let mut wanted = cut.times.clone();
        wanted.dedup();
        let input = match input {
            // Written once, although it may have to be read twice.
            Input::Bytes(bytes) => Input::held(bytes)?,
            other => other.clone(),
        };
        let mut frames = Frames {
            ffmpeg: self.clone(),
            input,
            video: video.clone(),
            cut: cut.clone(),
            limits: limits.clone(),
            size,
            wanted,
            child: None,
            at: 0,
            done: 0,
            last: None,
            seeked: false,
        };
        frames.start(true)?;
        Ok(frames)
    }
}

impl Frames {
    /// Width and height of the frames.
    #[must_use]
    pub const fn size(&self) -> [u32; 2] {
        self.size
    }

    /// Starts a process at the last key frame before the first frame, or at the beginning.
    fn start(&mut self, seek: bool) -> Result<(), ClipError> {
        let wanted = &self.wanted[self.done..];
        let first = wanted.first().copied().unwrap_or(i64::MIN);
        let before = self.video.keys.partition_point(|&key| key <= first);
        let key = before.checked_sub(1).map(|at| if seek { at } else { 0 });
        // What is stored before the first key frame would only be complained about.
        let key = key.filter(|&at| (at > 0 || self.video.led) && !self.video.counted);
        self.seeked = key.is_some_and(|at| at > 0);
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |more: &[&str]| arguments.extend(more.iter().map(OsString::from));
        let threads = self.limits.threads.max(1).to_string();
        add(&["-hide_banner", "-nostdin", "-nostats"]);
        add(&["-loglevel", LEVEL_FRAMES, "-xerror", "-copyts"]);
        add(&["-filter_threads", "1", "-threads", &threads]);
        add(&["-protocol_whitelist", "file"]);
        add(&["-format_whitelist", CONTAINERS]);
        add(&["-max_pixels", &self.limits.source_pixels.to_string()]);
        // Damage must not be painted over.
        add(&["-err_detect", "explode", "-flags", "bitexact"]);
        add(&["-noautorotate", "-noaccurate_seek"]);
        if let Some(key) = key {
            let at = self.seek_seconds(self.video.keys[key]);
            add(&["-seek_timestamp", "1", "-ss", &at]);
        }
        add(&["-i", NAME]);
        add(&["-map", &format!("0:{}", self.video.stream)]);
        add(&["-map_metadata", "-1", "-an", "-sn", "-dn"]);
        add(&["-avoid_negative_ts", "disabled"]);
        if self.cut.encoding == Encoding::Source {
            add(&["-c:v", "copy", "-f", "smjpeg"]);
        } else {
            add(&self.ffmpeg.every_frame());
            add(&["-vf", &graph(&self.video, &self.cut, wanted)]);
            add(&["-frames:v", &wanted.len().to_string()]);
            add(&["-c:v", "rawvideo", "-pix_fmt", "rgb24", "-f", "rawvideo"]);
        }
        add(&["pipe:1"]);
        // Not two at a time.
        self.child = None;
        let stdin = self.input.open()?.into();
        let child = Child::spawn(self.ffmpeg.ffmpeg(), &arguments, stdin, &self.limits)?;
        self.child = Some(child);
        Ok(())
    }

    /// Seconds of a timestamp as FFmpeg reads them, rounded up to a microsecond: a position just
    /// before a key frame is a position in the group before it.
    fn seek_seconds(&self, time: i64) -> String {
        let (num, den) = self.video.time_base;
        let micros = i128::from(time) * i128::from(num) * 1_000_000;
        let den = i128::from(den);
        let micros = micros.div_euclid(den) + i128::from(micros.rem_euclid(den) != 0);
        format!("{micros}us")
    }

    fn next_frame(&mut self) -> Result<Bytes, ClipError> {
        let time = self.wanted[self.done];
        let mut first = None;
        loop {
            let seconds = self.video.seconds(time);
            let Some(child) = &mut self.child else {
                // Not reached: after an error nothing is asked for.
                return Err(ClipError::Cut {
                    reason: "it has ended".into(),
                });
            };
            let frame = match self.cut.encoding {
                Encoding::Source => source_frame(child, &self.video, time, &self.limits),
                _ => pixels(child, &self.video, time, self.size, &self.limits),
            };
            let frame = frame.map_err(|error| error.at(seconds));
            match frame {
                // The index of the container may have led astray, or what is behind this key frame
                // needs what is before it: the rest once more, from the beginning.
                Err(error @ ClipError::Damaged { .. }) if self.seeked => {
                    first.get_or_insert(error);
                    self.start(false)?;
                }
                Err(error @ ClipError::Damaged { .. }) => return Err(first.unwrap_or(error)),
                Err(error) => return Err(error),
                Ok(bytes) if self.cut.encoding == Encoding::Source => {
                    return ready(bytes).map_err(|error| error.at(seconds));
                }
                Ok(rgb) => return encode(rgb, self.size, self.cut.encoding),
            }
        }
    }
}

/// The pixels of the next frame, which must be the one of this time.
fn pixels(
    child: &mut Child,
    video: &Video,
    time: i64,
    [width, height]: [u32; 2],
    limits: &Limits,
) -> Result<Vec<u8>, ClipError> {
    let at = video.seconds(time);
    let missing = "its frame does not come out of the decoder";
    let announced = child.announced()?;
    match announced {
        None => return Err(child.failure(limits, at, missing)),
        Some(announced) if announced != time && !video.counted => {
            return Err(ClipError::Damaged {
                at,
                reason: missing.into(),
            });
        }
        Some(_) => {}
    }
    let mut rgb = vec![0; width as usize * height as usize * 3];
    if child.read_full(&mut rgb)? < rgb.len() {
        return Err(child.failure(limits, at, missing));
    }
    Ok(rgb)
}

impl Iterator for Frames {
    type Item = Result<Bytes, ClipError>;

    fn next(&mut self) -> Option<Self::Item> {
        let time = *self.cut.times.get(self.at)?;
        self.at += 1;
        if let (Some(last), Some(&before)) =
            (&self.last, self.cut.times.get(self.at.wrapping_sub(2)))
            && before == time
        {
            return Some(Ok(last.clone()));
        }
        let frame = self.next_frame();
        self.done += 1;
        match &frame {
            Ok(bytes) => self.last = Some(bytes.clone()),
            Err(_) => self.at = self.cut.times.len(),
        }
        if self.done == self.wanted.len() || frame.is_err() {
            // The rest of the file is nobody's business.
            self.child = None;
        }
        Some(frame)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.cut.times.len() - self.at))
    }
}
