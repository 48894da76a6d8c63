//! What FFmpeg says while it works: announcements of frames, and complaints.

use std::collections::VecDeque;

use crate::cut::MAX_CUT_FRAMES;

/// Of a line, so much is kept; one longer than this is cut.
const MAX_LINE: usize = 400;
/// Different complaints that are searched for a cause: the first eight, which name it best, and the
/// last eight, which say how it ended.
const MAX_COMPLAINTS: usize = 16;

/// FFmpeg's last words where it stops because of the file; some decoders give no reason before.
const GAVE_UP: &str = "Conversion failed!";

/// How FFmpeg is asked to speak: every line with its level, none folded together.
pub(crate) const LEVEL_FRAMES: &str = "repeat+level+info";
/// The same without announcements.
pub(crate) const LEVEL_ERRORS: &str = "repeat+level+error";

/// The messages of one process, bounded whatever it writes.
#[derive(Debug, Default)]
pub(crate) struct Said {
    partial: Vec<u8>,
    announced: VecDeque<i64>,
    complaints: Vec<String>,
    last: String,
    gave_up: bool,
}

impl Said {
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' || byte == b'\r' {
                let line = String::from_utf8_lossy(&self.partial).into_owned();
                self.partial.clear();
                self.line(line.trim());
            } else if self.partial.len() < MAX_LINE {
                self.partial.push(byte);
            }
        }
        if bytes.is_empty() && !self.partial.is_empty() {
            let line = String::from_utf8_lossy(&self.partial).into_owned();
            self.partial.clear();
            self.line(line.trim());
        }
    }

    fn line(&mut self, line: &str) {
        if line.contains("_showinfo_") {
            // Its other lines describe the stream.
            let time = line.split_once(" pts:").map(|(_, rest)| rest.trim_start());
            if let Some(time) = time
                && self.announced.len() < MAX_CUT_FRAMES
            {
                let time = time.split(' ').next().and_then(|time| time.parse().ok());
                self.announced.push_back(time.unwrap_or(i64::MIN));
            }
            return;
        }
        let complaint = ["[error] ", "[fatal] ", "[panic] "]
            .iter()
            .find_map(|level| line.split_once(level));
        if let Some((who, what)) = complaint {
            // `[h264 @ 0x5581] ` without the address, which differs every time.
            let who = who
                .trim_start_matches('[')
                .split(" @ ")
                .next()
                .unwrap_or("");
            let said = if who.is_empty() || who == "NULL" {
                what.to_owned()
            } else {
                format!("{who}: {what}")
            };
            if !self.complaints.contains(&said) {
                if self.complaints.len() == MAX_COMPLAINTS {
                    self.complaints.remove(MAX_COMPLAINTS / 2);
                }
                self.complaints.push(said);
            }
        } else if let Some((_, warning)) = line.split_once("[warning] ") {
            warning.clone_into(&mut self.last);
        } else if line.ends_with(GAVE_UP) {
            self.gave_up = true;
        } else if !line.is_empty() && !line.starts_with('[') {
            line.clone_into(&mut self.last);
        }
    }

    /// The timestamp of the next frame that was announced and not yet asked for.
    pub(crate) fn announced(&mut self) -> Option<i64> {
        self.announced.pop_front()
    }

    /// What FFmpeg's libraries complained about first; none where nothing of the kind was said, and
    /// it may not have been FFmpeg that spoke.
    pub(crate) fn complaint(&self) -> Option<&str> {
        self.complaints.first().map(String::as_str)
    }

    /// Whether it was FFmpeg that ended in good order, because of what it found in the file.
    pub(crate) fn found_fault(&self) -> bool {
        self.gave_up || self.complaint().is_some()
    }

    /// Whether a complaint has one of these words in it, and which complaint.
    pub(crate) fn complains_of(&self, words: &[&str]) -> Option<&str> {
        self.complaints
            .iter()
            .map(String::as_str)
            .chain([self.last.as_str()])
            .find(|complaint| words.iter().any(|word| complaint.contains(word)))
    }

    /// The best single line: the first complaint, else the last line.
    pub(crate) fn last(&self) -> &str {
        let line = self.complaint().unwrap_or(&self.last);
        if line.is_empty() {
            "no reason given"
        } else {
            line
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_and_complaints_are_told_apart() {
        let mut said = Said::default();
        said.take(b"Input #0, avi, from 'x':\n[Parsed_showinfo_1 @ 0x1] [info] config in time_base: 1/25\n");
        said.take(b"[Parsed_showinfo_1 @ 0x1] [info] n:   0 pts:   -12 pts_time:-0.5 dura");
        assert_eq!(said.announced(), None, "only whole lines count");
        said.take(b"tion:  1\n[h264 @ 0x2] [error] bad slice\n[error] No such filter");
        assert_eq!(said.announced(), Some(-12));
        said.take(b"");
        assert_eq!(said.complaint(), Some("h264: bad slice"));
        assert_eq!(said.complains_of(&["filter"]), Some("No such filter"));
        assert!(said.found_fault());
    }

    #[test]
    fn endless_chatter_is_bounded() {
        let mut said = Said::default();
        for n in 0..100_000 {
            said.take(format!("[a @ 1] [error] no {n}\n[x_showinfo_1] n:0 pts:{n} \n").as_bytes());
        }
        said.take(&vec![b'x'; 1 << 20]);
        assert_eq!(said.complaints.len(), MAX_COMPLAINTS);
        assert_eq!(said.announced.len(), MAX_CUT_FRAMES);
        assert_eq!(said.partial.len(), MAX_LINE);
    }
}
