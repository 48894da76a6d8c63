//! Why a process did not do what it was started for.

use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use crate::{ClipError, Limits, child::Child};

/// What is said where an allocation failed.
const NO_MEMORY: [&str; 4] = [
    "Cannot allocate memory",
    "bad_alloc",
    "out of memory",
    // The loader's words: not even the libraries find room.
    "failed to map segment",
];
/// What FFmpeg says when its processor time is over and it has caught the signal.
const OVER_TIME: [&str; 1] = ["received signal 24"];
/// What is said of frames that pass the limit.
const TOO_MANY_PIXELS: [&str; 1] = ["max pixel count"];
/// What is said where FFmpeg was built without something, so that every clip would fail.
const LACKING: [&str; 4] = [
    "No such filter",
    "Unrecognized option",
    "Unknown encoder",
    "Requested output format",
];
/// The statuses of a shell that cannot start a program.
const NOT_STARTED: [i32; 2] = [126, 127];

impl Child {
    /// Ends the process and finds the words for what happened, at this time of the clip; `missing`
    /// is what to say where it believes that all went well.
    pub(crate) fn failure(&mut self, limits: &Limits, at: f64, missing: &str) -> ClipError {
        let status = self.end();
        let signal = status.and_then(|status| status.signal());
        let said = self.said().to_owned();
        let over_time = signal == Some(Signal::XCPU.as_raw())
            || self.messages().complains_of(&OVER_TIME).is_some();
        if over_time {
            return ClipError::Timeout {
                what: "processor time",
                limit: limits.cpu,
                at,
            };
        }
        if let Some(said) = self.messages().complains_of(&NO_MEMORY) {
            return ClipError::Memory {
                limit: limits.memory_bytes,
                at,
                said: said.to_owned(),
            };
        }
        if let Some(said) = self.messages().complains_of(&TOO_MANY_PIXELS) {
            return ClipError::TooLarge {
                what: "a frame",
                is: said.split(" exceeds").next().unwrap_or(said).to_owned(),
                most: format!("{} pixels", limits.source_pixels),
            };
        }
        if let Some(said) = self.messages().complains_of(&LACKING) {
            return ClipError::Lacking {
                said: said.to_owned(),
            };
        }
        let how = match (status, signal) {
            (None, _) => "did not end".to_owned(),
            (_, Some(9)) => {
                "was killed (by the system, which is out of memory, or past its processor time)"
                    .to_owned()
            }
            (_, Some(signal)) => format!("crashed by signal {signal}"),
            (Some(status), None) => match status.code() {
                Some(code) if NOT_STARTED.contains(&code) => {
                    return ClipError::Io {
                        doing: "FFmpeg cannot be started".into(),
                        source: std::io::Error::other(said),
                    };
                }
                Some(0) => {
                    let reason = self.messages().complaint().unwrap_or(missing).to_owned();
                    return ClipError::Damaged { at, reason };
                }
                _ if self.messages().found_fault() => {
                    return ClipError::Damaged { at, reason: said };
                }
                code => format!("ended with status {}", code.unwrap_or(-1)),
            },
        };
        ClipError::Crashed { how, at, said }
    }
}
