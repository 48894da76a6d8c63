//! The same batches in PyTorch, by a Python that has torch and diffusers: a process per dtype that
//! stays up, so that rounds can take turns with ours.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use preheat_models::PixelData;

use super::Case;

const SCRIPT: &str = include_str!("compare.py");

/// diffusers' encoder of one model and dtype.
pub(super) struct Torch {
    child: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// torch, diffusers and threads, as Python reports them.
    pub(super) versions: String,
}

impl Torch {
    /// Starts `python` and loads the model there: model, dtype, device, and `eager` or `compiled`.
    pub(super) fn start(python: &Path, options: [&str; 4]) -> anyhow::Result<Self> {
        let mut child = Command::new(python)
            .args(["-c", SCRIPT])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", python.display()))?;
        let calls = child.stdin.take().context("no pipe to Python")?;
        let answers = BufReader::new(child.stdout.take().context("no pipe from Python")?);
        let mut this = Self {
            child,
            calls,
            answers,
            versions: String::new(),
        };
        let hello = this.answer()?;
        let Some(versions) = hello.strip_prefix("ready ") else {
            bail!("Python said `{hello}`: does it have torch and diffusers?");
        };
        this.versions = versions.to_owned();
        Ok(this)
    }

    /// Time to encode `images`, or clips, of a case.
    pub(super) fn run(&mut self, case: &Case, images: usize) -> anyhow::Result<Duration> {
        let calls = images.div_ceil(case.batch);
        let (size, batch, frames) = (case.size, case.batch, case.pixels.frames);
        writeln!(self.calls, "time {size} {batch} {frames} {calls}").context("calling Python")?;
        let seconds = self.answer()?;
        let seconds = seconds
            .parse()
            .with_context(|| format!("Python answered `{seconds}`"))?;
        Ok(Duration::from_secs_f64(seconds))
    }

    /// Relative L2 distances from PyTorch in f32 for the case's own pixels: of `ours`, the means, and
    /// of PyTorch in this dtype.
    pub(super) fn distances(&mut self, case: &Case, ours: &[f32]) -> anyhow::Result<[f64; 2]> {
        let PixelData::Rgb8(bytes) = &case.pixels.data else {
            bail!("cases are made of bytes");
        };
        let folder = tempfile::tempdir().context("creating a temporary folder")?;
        let [pixels, latents] = ["pixels", "latents"].map(|name| folder.path().join(name));
        fs::write(&pixels, bytes).context("writing the pixels")?;
        let ours: Vec<u8> = ours.iter().flat_map(|v| v.to_le_bytes()).collect();
        fs::write(&latents, ours).context("writing the latents")?;
        let (size, batch, frames) = (case.size, case.batch, case.pixels.frames);
        let folder = folder.path().display();
        writeln!(self.calls, "distances {size} {batch} {frames} {folder}")
            .context("calling Python")?;
        let answer = self.answer()?;
        let distances: Result<Vec<f64>, _> = answer.split(' ').map(str::parse).collect();
        let distances = distances.with_context(|| format!("Python answered `{answer}`"))?;
        distances
            .try_into()
            .ok()
            .context("two distances were asked for")
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let read = self
            .answers
            .read_line(&mut line)
            .context("reading from Python")?;
        if read == 0 {
            let status = self.child.wait().context("waiting for Python")?;
            bail!("Python ended ({status}); its own words are above");
        }
        Ok(line.trim().to_owned())
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
