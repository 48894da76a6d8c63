//! What the tests share.

use std::path::PathBuf;

use preheat_clips::{
    ClipError, Cut, Encoding, Ffmpeg, Input, Limits, Video,
    fixtures::{Numbered, ffmpeg, read_blocks},
};
use tempfile::TempDir;

/// An FFmpeg and a directory for clips.
pub(crate) struct With {
    pub(crate) ffmpeg: Ffmpeg,
    pub(crate) limits: Limits,
    directory: TempDir,
}

impl With {
    /// None where this machine has no FFmpeg and need not have one.
    pub(crate) fn new() -> Option<Self> {
        Some(Self {
            ffmpeg: ffmpeg()?,
            limits: Limits::default(),
            directory: tempfile::tempdir().unwrap(),
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a clip; none, with a line, where this FFmpeg lacks the encoder.
    pub(crate) fn clip(&self, name: &str, numbered: &Numbered) -> Option<Input> {
        let path = self.path(name);
        if !numbered.write(&self.ffmpeg, &path).unwrap() {
            eprintln!("NOT TESTED: no encoder for {:?}", numbered.codec);
            return None;
        }
        Some(Input::Path(path))
    }

    /// FFmpeg with options of the test's own, for files that need it.
    pub(crate) fn run(&self, arguments: &[&str]) {
        let program = std::env::var("PREHEAT_FFMPEG").unwrap_or_else(|_| "ffmpeg".into());
        let done = std::process::Command::new(program)
            .args(["-y", "-v", "error"])
            .args(arguments)
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {said}");
    }

    pub(crate) fn probe(&self, input: &Input) -> Result<Video, ClipError> {
        self.ffmpeg.probe(input, &self.limits)
    }

    /// The numbers in the frames of a cut without scaling.
    pub(crate) fn numbers(&self, input: &Input, video: &Video, times: &[i64]) -> Vec<Option<u32>> {
        let cut = Cut::whole(times.to_vec(), Encoding::Rgb8);
        let frames = self
            .ffmpeg
            .frames(input, video, &cut, &self.limits)
            .unwrap();
        let size = frames.size();
        frames.map(|rgb| read_blocks(&rgb.unwrap(), size)).collect()
    }

    /// All that is taken, or the first error.
    pub(crate) fn all(&self, input: &Input) -> Result<Vec<Option<u32>>, ClipError> {
        let video = self.probe(input)?;
        let cut = Cut::whole(video.times.clone(), Encoding::Rgb8);
        let frames = self.ffmpeg.frames(input, &video, &cut, &self.limits)?;
        let size = frames.size();
        frames.map(|rgb| Ok(read_blocks(&rgb?, size))).collect()
    }
}

/// Numbers as they are read back.
pub(crate) fn all_of(numbers: impl IntoIterator<Item = u32>) -> Vec<Option<u32>> {
    numbers.into_iter().map(Some).collect()
}
