//! FFmpeg in a process of its own: limited, never waited for too long, never left behind.

use std::{
    ffi::OsString,
    io::Read,
    os::{fd::AsFd, unix::process::CommandExt},
    path::Path,
    process::{ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};

use crate::{ClipError, Limits, said::Said};

/// A shell sets the limits and then becomes the program: limits that hold from its first
/// instruction on, on every Unix, without code between fork and exec (which would be unsafe).
/// No core dumps, no files written, processor time (a signal first, the end two seconds later), and
/// address space where the system can limit it.
const LIMITED: &str = "{ ulimit -c 0; ulimit -f 0; ulimit -H -t $(($0 + 2)); \
     ulimit -S -t $0; ulimit -v $1; } 2>/dev/null; shift; exec \"$@\"";
/// What is passed on of the environment: where some systems keep FFmpeg's libraries.
const PASSED_ON: [&str; 2] = ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];
/// One read of messages.
const MESSAGES: usize = 4096;
/// A process whose pipes are closed is about to be gone; how often to look, and for how long before
/// it is ended.
const GONE_LOOK: Duration = Duration::from_millis(1);
const GONE_WAIT: Duration = Duration::from_secs(5);
/// How often to look whether it is to be ended from outside.
const STOP_LOOK: Duration = Duration::from_millis(50);

/// A running program and the reading ends of its output. Dropping it ends the program and all that
/// it started, and reaps it.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    said: Said,
    limits: Limits,
    /// How long it kept us waiting, up to this visit.
    waited: Duration,
    /// When this visit began.
    entered: Instant,
    status: Option<ExitStatus>,
}

impl Child {
    pub(crate) fn spawn(
        program: &Path,
        arguments: &[OsString],
        stdin: Stdio,
        limits: &Limits,
    ) -> Result<Self, ClipError> {
        let cpu = limits.cpu.as_millis().div_ceil(1000).max(1);
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", LIMITED])
            .arg(cpu.to_string())
            .arg((limits.memory_bytes >> 10).to_string())
            .arg(program)
            .args(arguments)
            .current_dir("/")
            .env_clear()
            .env("LC_ALL", "C")
            .env("AV_LOG_FORCE_NOCOLOR", "1")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // So that what it may have started ends with it.
            .process_group(0);
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let mut process = command.spawn().map_err(|source| ClipError::Io {
            doing: format!("{} cannot be started", program.display()),
            source,
        })?;
        Ok(Self {
            stdout: process.stdout.take(),
            stderr: process.stderr.take(),
            process,
            said: Said::default(),
            limits: limits.clone(),
            waited: Duration::ZERO,
            entered: Instant::now(),
            status: None,
        })
    }

    /// What it said last, as one line.
    pub(crate) fn said(&self) -> &str {
        self.said.last()
    }

    pub(crate) fn messages(&mut self) -> &mut Said {
        &mut self.said
    }

    /// Fills the buffer, or as much of it as there is until the output ends.
    pub(crate) fn read_full(&mut self, buffer: &mut [u8]) -> Result<usize, ClipError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    /// What there is of the output, at least a byte; 0 at its end. Messages are taken in meanwhile.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ClipError> {
        self.visit(|child| child.read_now(buffer))
    }

    fn read_now(&mut self, buffer: &mut [u8]) -> Result<usize, ClipError> {
        while self.stdout.is_some() {
            let ready = self.wait()?;
            if ready.stderr {
                self.take_messages()?;
            }
            if ready.stdout
                && let Some(stdout) = &mut self.stdout
            {
                let read = stdout.read(buffer).map_err(pipe)?;
                if read == 0 {
                    self.stdout = None;
                }
                return Ok(read);
            }
        }
        Ok(0)
    }

    /// The timestamp of the next frame, as FFmpeg announces it; none where it ended without.
    pub(crate) fn announced(&mut self) -> Result<Option<i64>, ClipError> {
        self.visit(Self::announced_now)
    }

    fn announced_now(&mut self) -> Result<Option<i64>, ClipError> {
        loop {
            if let Some(time) = self.said.announced() {
                return Ok(Some(time));
            }
            // Output that waits would always be ready, and nothing would be waited for.
            let stdout = self.stdout.take();
            let ready = self.wait();
            self.stdout = stdout;
            if !ready?.stderr {
                return Ok(None);
            }
            self.take_messages()?;
        }
    }

    /// Waits until it has ended by itself, for a moment, or ends it. What it says last is kept.
    pub(crate) fn end(&mut self) -> Option<ExitStatus> {
        self.stdout = None;
        self.visit(|child| {
            while child.stderr.is_some() && child.wait().is_ok() && child.take_messages().is_ok() {}
        });
        let since = Instant::now();
        while !self.is_gone() && since.elapsed() < GONE_WAIT {
            std::thread::sleep(GONE_LOOK);
        }
        if self.is_gone() && self.status.is_none() {
            // Before it is reaped, what it may have started.
            self.kill();
            self.status = self.process.wait().ok();
        }
        self.status
    }

    /// Whether it has ended; it is not reaped by asking.
    fn is_gone(&self) -> bool {
        let asked = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let gone = self.group().map(|pid| waitid(WaitId::Pid(pid), asked));
        self.status.is_some() || !matches!(gone, Some(Ok(None)))
    }

    /// Counts the time that this takes, whether it is spent waiting or on output without end.
    fn visit<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        self.entered = Instant::now();
        let answer = work(self);
        self.waited += self.entered.elapsed();
        answer
    }

    fn take_messages(&mut self) -> Result<(), ClipError> {
        let Some(stderr) = &mut self.stderr else {
            return Ok(());
        };
        let mut buffer = [0; MESSAGES];
        let read = stderr.read(&mut buffer).map_err(pipe)?;
        if read == 0 {
            self.stderr = None;
        }
        self.said.take(&buffer[..read]);
        Ok(())
    }

    /// Which of the two pipes have something or have ended; an error once it kept us waiting for too
    /// long. Neither, where both are closed.
    fn wait(&mut self) -> Result<Ready, ClipError> {
        loop {
            if self.limits.stop.is_stopped() {
                self.kill();
                return Err(ClipError::Stopped);
            }
            let spent = self.waited + self.entered.elapsed();
            let left = self.limits.wall.saturating_sub(spent);
            if left.is_zero() {
                self.kill();
                return Err(ClipError::Timeout {
                    what: "waiting",
                    limit: self.limits.wall,
                    at: 0.0,
                });
            }
            let fds = [
                self.stdout.as_ref().map(AsFd::as_fd),
                self.stderr.as_ref().map(AsFd::as_fd),
            ];
            let mut polled: Vec<_> = fds
                .iter()
                .flatten()
                .map(|fd| PollFd::new(fd, PollFlags::IN))
                .collect();
            if polled.is_empty() {
                return Ok(Ready::default());
            }
            let look = Timespec::try_from(left.min(STOP_LOOK)).ok();
            match poll(&mut polled, look.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => {
                    let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
                    let mut next = |there: bool| there && ready.next().unwrap_or(false);
                    return Ok(Ready {
                        stdout: next(fds[0].is_some()),
                        stderr: next(fds[1].is_some()),
                    });
                }
                Err(error) => return Err(pipe(error.into())),
            }
        }
    }

    /// Its group has its number, and nobody else can have it while the process is not reaped.
    fn group(&self) -> Option<Pid> {
        let id = i32::try_from(self.process.id()).ok();
        id.and_then(Pid::from_raw)
    }

    fn kill(&self) {
        if let Some(group) = self.group() {
            // Gone already is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.kill();
            // Returns at once: nothing survives this signal.
            let _ = self.process.wait();
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Ready {
    stdout: bool,
    stderr: bool,
}

fn pipe(source: std::io::Error) -> ClipError {
    ClipError::Io {
        doing: "the pipe to FFmpeg".into(),
        source,
    }
}
