//! From packets as they are stored to the frames that are shown.

use super::{lines::fields, stream::Stream};
use crate::{ClipError, Limits};

/// All packets of all streams of video, in the order of the file.
#[derive(Default)]
pub(super) struct Packets {
    packets: Vec<Packet>,
}

struct Packet {
    stream: u32,
    pts: Option<i64>,
    dts: Option<i64>,
    duration: i64,
    key: bool,
    /// Decoded, but cut away by an edit list.
    discard: bool,
}

/// Timestamps of what is shown.
pub(super) struct Shown {
    pub(super) times: Vec<i64>,
    pub(super) end: i64,
    pub(super) keys: Vec<i64>,
    pub(super) counted: bool,
    pub(super) led: bool,
}

impl Packets {
    pub(super) fn line(&mut self, line: &str, limits: &Limits) -> Result<(), ClipError> {
        let mut packet = Packet {
            stream: u32::MAX,
            pts: None,
            dts: None,
            duration: 0,
            key: false,
            discard: false,
        };
        for (key, value) in fields(line) {
            match key {
                "stream_index" => packet.stream = value.parse().unwrap_or(u32::MAX),
                "pts" => packet.pts = value.parse().ok(),
                "dts" => packet.dts = value.parse().ok(),
                "duration" => packet.duration = value.parse().unwrap_or(0),
                "flags" => {
                    packet.key = value.contains('K');
                    packet.discard = value.contains('D');
                }
                _ => {}
            }
        }
        if self.packets.len() >= limits.source_frames {
            return Err(ClipError::TooLarge {
                what: "the number of frames",
                is: format!("more than {}", limits.source_frames),
                most: limits.source_frames.to_string(),
            });
        }
        self.packets.push(packet);
        Ok(())
    }

    /// When the frames of a stream are shown.
    pub(super) fn shown(&self, stream: &Stream, avi: bool) -> Result<Shown, ClipError> {
        let all: Vec<_> = self
            .packets
            .iter()
            .filter(|packet| packet.stream == stream.index)
            .collect();
        let none = |reason: &str| ClipError::NoFrames {
            reason: reason.to_owned(),
        };
        // Nothing before the first key frame can be decoded.
        // Matroska leaves out timestamps before zero: such frames are not shown either.
        let counted = avi && all.iter().any(|packet| packet.pts.is_none());
        let first = all
            .iter()
            .position(|packet| packet.key && (counted || packet.pts.is_some()))
            .ok_or_else(|| none("no key frame in the stream"))?;
        let packets = &all[first..];
        let time = |packet: &Packet| if counted { packet.dts } else { packet.pts };
        // Frames that are shown before the first key frame but stored behind it refer to what is not
        // there.
        let start = packets.first().and_then(|packet| time(packet));
        let shown = packets
            .iter()
            .filter(|packet| !packet.discard && (counted || packet.pts >= start));
        let mut shown: Vec<_> = shown
            .filter_map(|packet| Some((time(packet)?, packet.duration)))
            .collect();
        shown.sort_unstable();
        // A position there may lead to the second of the two.
        let twice: Vec<_> = shown
            .windows(2)
            .filter(|two| two[0].0 == two[1].0)
            .map(|two| two[0].0)
            .collect();
        shown.dedup_by_key(|(time, _)| *time);
        let Some(&(last, duration)) = shown.last() else {
            return Err(none("no frame has a timestamp"));
        };
        let before = shown.len().checked_sub(2).map(|at| shown[at].0);
        let lasts = match (duration, before) {
            (1.., _) => duration,
            // Nothing is said: as long as the frame before it.
            (_, Some(before)) => last.saturating_sub(before),
            _ => 1,
        };
        let mut keys: Vec<_> = packets
            .iter()
            .filter(|packet| packet.key)
            .filter_map(|packet| time(packet))
            .filter(|time| twice.binary_search(time).is_err())
            .collect();
        keys.sort_unstable();
        Ok(Shown {
            times: shown.iter().map(|(time, _)| *time).collect(),
            end: last.saturating_add(lasts),
            keys,
            counted,
            led: first > 0,
        })
    }
}
