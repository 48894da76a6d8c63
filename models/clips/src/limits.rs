//! What a clip may cost, and what its process may take.

use std::time::Duration;

use crate::Stop;

/// Bounds on one clip and on the process that reads it. Public fields: change what you need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a process may keep its reader waiting, summed over the clip. Time in which the
    /// reader does something else does not count, so a slow consumer kills nothing.
    pub wall: Duration,
    /// Processor time of a process, in whole seconds (rounded up).
    pub cpu: Duration,
    /// Address space of a process, in bytes (where the system can limit it: Linux).
    pub memory_bytes: u64,
    /// Width times height of the source, and of what a cut makes of it.
    pub source_pixels: u64,
    /// Frames of the whole file: each costs a line of text and 8 bytes when it is probed.
    pub source_frames: usize,
    /// Seconds of the whole file.
    pub source_seconds: u64,
    /// Threads of the decoder. Frames are the same for any number.
    pub threads: u16,
    /// Ends the process from outside, at any time.
    pub stop: Stop,
}

impl Default for Limits {
    /// What any clip of a training set stays far below: 121 frames of 4K H.265 take some 10 s of one
    /// core and half a gigabyte.
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(120),
            cpu: Duration::from_secs(300),
            memory_bytes: 4 << 30,
            // 8K is 33 million.
            source_pixels: 64 << 20,
            // Nine hours at 60 frames a second.
            source_frames: 2_000_000,
            source_seconds: 24 * 3600,
            // Clips are decoded side by side, which uses cores better than threads in one of them.
            threads: 1,
            stop: Stop::default(),
        }
    }
}
