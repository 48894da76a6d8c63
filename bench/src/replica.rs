//! A replica or a balancer in a process of its own: this very binary, started as `preheat-bench
//! replica ...` or `preheat-bench balancer ...`.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};

/// How long a replica may take to load its model and bind.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What a replica prints before its address.
const BANNER: &str = "listening on ";

/// A running replica, or a balancer, which seems to be one; killed on drop.
#[derive(Debug)]
pub struct Replica {
    child: Child,
    address: SocketAddr,
}

impl Replica {
    /// Starts this very program as a replica; `options` are those of `preheat-server`.
    ///
    /// # Errors
    /// As [`Replica::spawn`].
    pub fn start(options: &[&str]) -> anyhow::Result<Self> {
        Self::spawn(
            &env::current_exe().context("finding this program")?,
            options,
        )
    }

    /// Starts this very program as a balancer; `options` are those of `preheat-balancer`.
    ///
    /// # Errors
    /// As [`Replica::spawn`].
    pub fn balancer(options: &[&str]) -> anyhow::Result<Self> {
        let program = env::current_exe().context("finding this program")?;
        Self::spawn_as("balancer", &program, options)
    }

    /// Starts `program replica ...` and waits until it listens.
    ///
    /// # Errors
    /// Where it cannot start, or says nothing within a minute.
    pub fn spawn(program: &Path, options: &[&str]) -> anyhow::Result<Self> {
        Self::spawn_as("replica", program, options)
    }

    fn spawn_as(what: &str, program: &Path, options: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .arg(what)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting a {what}"))?;
        let stdout = child
            .stdout
            .take()
            .with_context(|| format!("no pipe from the {what}"))?;
        let (tell, told) = mpsc::sync_channel(1);
        // Reads to the end, so that the replica never blocks on a full pipe.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix(BANNER) {
                    let _ = tell.send(address.trim().to_owned());
                }
            }
        });
        let Ok(address) = told.recv_timeout(START_TIMEOUT) else {
            let _ = child.kill();
            let status = child
                .wait()
                .with_context(|| format!("waiting for the {what}"))?;
            bail!("the {what} did not start ({status}); its own words are above");
        };
        let address = address
            .parse()
            .with_context(|| format!("address `{address}`"))?;
        Ok(Self { child, address })
    }

    /// The URI to give to a loader.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process, as the system numbers it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process at once, as a preempted machine would.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.end();
    }
}
