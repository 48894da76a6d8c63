//! The same batches in PyTorch, by a Python that has torch and diffusers: a process per dtype that
//! stays up, so that rounds can take turns with ours.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};

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
    /// Starts `python` and loads the model there.
    pub(super) fn start(python: &Path, model: &str, dtype: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(python)
            .args(["-c", SCRIPT, model, dtype])
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

    /// Time to encode `images` of a case.
    pub(super) fn run(&mut self, case: &Case, images: usize) -> anyhow::Result<Duration> {
        let calls = images.div_ceil(case.batch);
        writeln!(self.calls, "{} {} {calls}", case.size, case.batch).context("calling Python")?;
        let seconds = self.answer()?;
        let seconds = seconds
            .parse()
            .with_context(|| format!("Python answered `{seconds}`"))?;
        Ok(Duration::from_secs_f64(seconds))
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
