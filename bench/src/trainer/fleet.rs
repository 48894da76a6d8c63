//! Who encodes: an endpoint that runs anyway, or replicas started for the run, which can be stopped.

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::Args;
use crate::{load::usage::Process, replica::Replica};

/// What a replica of ours calls its model.
pub(super) const MODEL: &str = "vae";

/// The replicas of a run, and a balancer before them where one was asked for.
pub(super) struct Fleet {
    replicas: Vec<Replica>,
    balancer: Option<Replica>,
    endpoint: String,
}

impl Fleet {
    /// Starts what is to be started.
    ///
    /// # Errors
    /// Where one cannot start.
    pub(super) fn start(args: &Args) -> anyhow::Result<Self> {
        let mut replicas = Vec::new();
        for number in 0..args.start.len() * args.replicas {
            let source = source(args, number);
            let model = format!("{MODEL}={source}");
            let mut options = vec!["--model", &model, "--listen", "127.0.0.1:0"];
            options.extend(args.replica_option.iter().map(String::as_str));
            replicas.push(Replica::start(&options)?);
        }
        let all: Vec<String> = replicas.iter().map(Replica::endpoint).collect();
        let all = all.join(",");
        let options = ["--listen", "127.0.0.1:0", "--replicas", &all];
        let balancer = args
            .balancer
            .then(|| Replica::balancer(&options))
            .transpose()?;
        let endpoint = match (&balancer, &args.endpoint) {
            (Some(balancer), _) => balancer.endpoint(),
            (None, Some(endpoint)) => endpoint.clone(),
            (None, None) => all,
        };
        Ok(Self {
            replicas,
            balancer,
            endpoint,
        })
    }

    /// What loaders are told.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// In words, for the title of a table.
    pub(super) fn about(&self) -> String {
        match (self.replicas.len(), &self.balancer) {
            (0, _) => self.endpoint.clone(),
            (replicas, None) => format!("{replicas} replicas"),
            (replicas, Some(_)) => format!("{replicas} replicas behind a balancer"),
        }
    }

    /// Stops all replicas at once, as one would with SIGSTOP; or lets them go on.
    ///
    /// # Errors
    /// Where one has ended.
    pub(super) fn stop(&self, stopped: bool) -> anyhow::Result<()> {
        let signal = if stopped { Signal::STOP } else { Signal::CONT };
        for replica in &self.replicas {
            let id = i32::try_from(replica.id()).ok().and_then(Pid::from_raw);
            let id = id.context("a replica without a process")?;
            kill_process(id, signal).context("a replica is gone")?;
        }
        Ok(())
    }

    /// # Errors
    /// Where a replica has ended by itself: whatever is measured then is not what was asked for.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        for replica in self.replicas.iter().chain(&self.balancer) {
            ensure!(
                Process::look(replica.id()) != Process::Ended,
                "the replica at {} has ended; its own words are above",
                replica.endpoint()
            );
        }
        Ok(())
    }
}

/// What a replica serves. Synthetic ones that are slow now and then are not so all at once.
fn source(args: &Args, number: usize) -> String {
    let source = &args.start[number / args.replicas];
    if source.contains("slow-seed=") {
        return source.clone();
    }
    let separator = if source.contains(':') { ',' } else { ':' };
    match (args.slow_share, source.starts_with("synthetic")) {
        (Some(share), true) => {
            let factor = args.slow_factor;
            format!("{source}{separator}slow-share={share},slow-factor={factor},slow-seed={number}")
        }
        (None, true) if source.contains("slow-share=") => {
            format!("{source}{separator}slow-seed={number}")
        }
        _ => source.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_slow_each_in_its_own_time() {
        let typed = ["x", "--start", "synthetic:channels=16", "--start", "dir"];
        let typed = [&typed[..], &["--replicas", "2", "--slow-share", "0.05"]].concat();
        let args = super::super::tests::parse(&typed).unwrap();
        let all: Vec<String> = (0..4).map(|number| source(&args, number)).collect();
        let slow =
            |seed| format!("synthetic:channels=16,slow-share=0.05,slow-factor=10,slow-seed={seed}");
        assert_eq!(all, [slow(0), slow(1), "dir".into(), "dir".into()]);
        let args = super::super::tests::parse(&["x", "--start", "synthetic"]).unwrap();
        assert_eq!(source(&args, 0), "synthetic");
    }
}
