//! What is in a file: its stream of video, and when each frame is shown. Nothing is decoded.

mod lines;
mod packets;
mod stream;

use std::{ffi::OsString, fs::File, os::unix::fs::FileExt};

use crate::{
    ClipError, Ffmpeg, Input, Limits, Video, child::Child, input::NAME, said::LEVEL_ERRORS,
};
use lines::Lines;
use packets::Packets;
use stream::Stream;

/// The containers that are read, by FFmpeg's names: mp4 and mov, mkv and webm, avi. No playlists and
/// no lists of files, which name others; FFmpeg goes by the content, never by the name.
pub(crate) const CONTAINERS: &str = "mov,mp4,matroska,webm,avi";
/// What is asked for, of packets and streams.
const ENTRIES: &str = "packet=stream_index,pts,dts,duration,flags:\
    stream=index,codec_name,width,height,sample_aspect_ratio,time_base,duration:\
    stream_disposition=default,attached_pic:stream_side_data=displaymatrix:\
    format=format_name,duration";
/// Lines that are no packets: one for each stream and for the container.
const OTHER_LINES: usize = 10_000;
/// What FFmpeg says of files that end before they should, without calling it a failure.
const CUT_OFF: [&str; 2] = ["partial file", "ended prematurely"];
/// What it says where packets are lost, and it goes on behind them.
const LOST: [&str; 3] = ["exceeds containing master element", "EBML", "resync"];

impl Ffmpeg {
    /// What is in a file. Reads all of it, but decodes nothing.
    ///
    /// # Errors
    ///
    /// Files that are no video, have no frames, end too early or pass the limits; a process that
    /// hangs or crashes.
    pub fn probe(&self, input: &Input, limits: &Limits) -> Result<Video, ClipError> {
        let arguments: Vec<OsString> = [
            "-hide_banner",
            "-loglevel",
            LEVEL_ERRORS,
            "-protocol_whitelist",
            "file",
            "-format_whitelist",
            CONTAINERS,
            "-max_pixels",
            &limits.source_pixels.to_string(),
            "-threads",
            &limits.threads.max(1).to_string(),
            "-select_streams",
            "v",
            "-show_entries",
            ENTRIES,
            "-of",
            "compact",
            NAME,
        ]
        .map(OsString::from)
        .into();
        let file = input.open()?;
        let cut_off = is_cut_off(&file);
        let mut child = Child::spawn(self.ffprobe(), &arguments, file.into(), limits)?;
        let mut found = Found::default();
        let mut lines = Lines::default();
        let mut count = 0;
        while let Some(line) = lines.next(&mut child)? {
            found.line(&line, limits)?;
            count += 1;
            if count > limits.source_frames.saturating_add(OTHER_LINES) {
                return Err(ClipError::Crashed {
                    how: "answered what it does not answer".into(),
                    at: 0.0,
                    said: format!("{count} lines"),
                });
            }
        }
        let video = found.video(&mut child, limits)?;
        let said = child.messages();
        if let Some(said) = cut_off.or(said.complains_of(&CUT_OFF)) {
            return Err(ClipError::Damaged {
                at: video.seconds(video.end),
                reason: format!("the file ends too early ({said})"),
            });
        }
        if let Some(said) = said.complains_of(&LOST) {
            return Err(ClipError::Damaged {
                at: video.seconds(before_longest_gap(&video.times)),
                reason: format!("frames are lost in the file ({said})"),
            });
        }
        Ok(video)
    }
}

/// Where frames went missing, as far as one can tell.
fn before_longest_gap(times: &[i64]) -> i64 {
    let pairs = times.windows(2);
    let longest = pairs.max_by_key(|pair| pair[1].saturating_sub(pair[0]));
    longest.or(times.get(..1)).map_or(0, |pair| pair[0])
}

/// Whether this is an AVI that is shorter than it says, of which FFmpeg makes nothing.
fn is_cut_off(file: &File) -> Option<&'static str> {
    let mut head = [0; 12];
    file.read_exact_at(&mut head, 0).ok()?;
    let [b'R', b'I', b'F', b'F', a, b, c, d, b'A', b'V', b'I', b' '] = head else {
        return None;
    };
    // The end of the range is written where the length was not known.
    let length = u32::from_le_bytes([a, b, c, d]);
    let known = !(0xffff_fff0..).contains(&length);
    let whole = u64::from(length) + 8;
    (known && file.metadata().ok()?.len() < whole).then_some("it is shorter than its header says")
}

/// What the lines of ffprobe have told so far.
#[derive(Default)]
struct Found {
    streams: Vec<Stream>,
    packets: Packets,
    container: Option<String>,
    /// Seconds, as the container claims.
    duration: Option<f64>,
}

impl Found {
    fn line(&mut self, line: &str, limits: &Limits) -> Result<(), ClipError> {
        match line.split_once('|') {
            Some(("packet", fields)) => self.packets.line(fields, limits)?,
            Some(("stream", fields)) => self.streams.extend(Stream::line(fields)),
            Some(("format", fields)) => {
                for (key, value) in lines::fields(fields) {
                    match key {
                        "format_name" => self.container = Some(value.to_owned()),
                        "duration" => self.duration = value.parse().ok(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn video(mut self, child: &mut Child, limits: &Limits) -> Result<Video, ClipError> {
        let Some(container) = self.container.take() else {
            return Err(self.unreadable(child, limits));
        };
        let stream = Stream::choose(&self.streams).ok_or_else(|| ClipError::NotVideo {
            reason: format!("no stream of video in it (container {container})"),
        })?;
        stream.check(limits)?;
        let shown = self.packets.shown(stream, container == "avi")?;
        let mut video = stream.video(shown);
        let duration = video.duration();
        #[expect(clippy::cast_precision_loss, reason = "a bound in hours")]
        let most = limits.source_seconds as f64;
        if duration > most {
            return Err(ClipError::TooLarge {
                what: "the duration",
                is: format!("{duration:.1} s"),
                most: format!("{most} s"),
            });
        }
        child.end();
        video.times.shrink_to_fit();
        Ok(video)
    }

    /// Nothing but complaints came.
    fn unreadable(&self, child: &mut Child, limits: &Limits) -> ClipError {
        match child.failure(limits, 0.0, "ffprobe found nothing in it") {
            ClipError::Damaged { reason, .. } => ClipError::NotVideo { reason },
            other => other,
        }
    }
}
