//! From the command line and the environment to plain values.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::ensure;
use preheat_proto::limits;

use super::security::Door;
use crate::{
    balance::{Settings, Sources},
    security::Security,
    wire,
};

/// Bodies of calls under way, at most: dozens of the largest, hundreds of the usual size.
const BUFFER_BYTES: u64 = 2 << 30;

/// Options of a balancer. For other programs: a clap group, to be embedded with `flatten`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The replicas: http://host:port or https://host:port for one, dns+http://host:port for every
    /// address of a name, file:PATH for a file with one such entry a line; may be repeated
    #[arg(
        long,
        value_name = "ENTRY,...",
        env = "PREHEAT_REPLICAS",
        value_delimiter = ',',
        required = true
    )]
    pub replicas: Vec<String>,

    /// Where to answer gRPC calls; port 0 takes a free one. The bound address is printed on stdout
    #[arg(
        long,
        value_name = "ADDR",
        env = "PREHEAT_LISTEN",
        default_value = "127.0.0.1:50050"
    )]
    pub listen: SocketAddr,

    /// Where to serve the status page, Prometheus metrics and probes, plain HTTP; port 0 takes a free
    /// one, printed on stdout. Without it there are none
    #[arg(long, value_name = "ADDR", env = "PREHEAT_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,

    /// Desire no replica at all after ten minutes without a call; otherwise always one
    #[arg(long, env = "PREHEAT_SCALE_TO_ZERO")]
    pub scale_to_zero: bool,

    /// How long calls wait while no replica serves what they ask for
    #[arg(
        long = "patience-seconds",
        value_name = "S",
        env = "PREHEAT_PATIENCE_SECONDS",
        default_value = "30",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub patience_seconds: u64,

    /// Bytes that the bodies of calls under way may take; past it the answer is "busy"
    #[arg(
        long,
        value_name = "N",
        env = "PREHEAT_BUFFER_BYTES",
        default_value_t = BUFFER_BYTES
    )]
    pub buffer_bytes: u64,

    /// Connections to each replica, at most; made as calls overlap
    #[arg(
        long,
        value_name = "N",
        env = "PREHEAT_CONNECTIONS",
        default_value_t = wire::DEFAULT_CONNECTIONS,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(wire::MAX_CONNECTIONS))
    )]
    pub connections: u32,

    /// After SIGTERM, how long calls in flight may take to finish
    #[arg(
        long = "drain-seconds",
        value_name = "S",
        env = "PREHEAT_DRAIN_SECONDS",
        default_value = "30"
    )]
    pub drain_seconds: u64,

    /// What protects the port
    #[command(flatten)]
    pub door: Door,

    /// How to call the replicas
    #[command(flatten)]
    pub upstream: Upstream,
}

/// How the replicas are called.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Upstream {
    /// The authorities that sign the certificates of https:// replicas, PEM [default: the system's]
    #[arg(
        id = "upstream-ca",
        long,
        value_name = "FILE",
        env = "PREHEAT_UPSTREAM_CA"
    )]
    pub ca: Option<PathBuf>,

    /// The certificate to show to replicas that want one, PEM
    #[arg(
        id = "upstream-cert",
        long,
        value_name = "FILE",
        env = "PREHEAT_UPSTREAM_CERT"
    )]
    pub cert: Option<PathBuf>,

    /// Its private key, PEM
    #[arg(
        id = "upstream-key",
        long,
        value_name = "FILE",
        env = "PREHEAT_UPSTREAM_KEY"
    )]
    pub key: Option<PathBuf>,

    /// The name that the replicas' certificates carry [default: the host of each]
    #[arg(
        id = "upstream-name",
        long,
        value_name = "NAME",
        env = "PREHEAT_UPSTREAM_NAME"
    )]
    pub name: Option<String>,

    /// The token to show to replicas, on the first line. Without it the callers' own are passed on,
    /// unless --token-file keeps them here
    #[arg(
        id = "upstream-token-file",
        long,
        value_name = "FILE",
        env = "PREHEAT_UPSTREAM_TOKEN_FILE"
    )]
    pub token_file: Option<PathBuf>,
}

/// What a balancer is to do: [`Args`], understood and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the replicas are.
    pub sources: Sources,
    /// Where to answer.
    pub listen: SocketAddr,
    /// Where the status page is.
    pub metrics_listen: Option<SocketAddr>,
    /// What the balancer is allowed.
    pub settings: Settings,
    /// Bytes that bodies may take.
    pub buffer_bytes: usize,
    /// Connections to each replica.
    pub connections: u32,
    /// How long calls in flight may take to finish after the signal.
    pub drain: Duration,
    /// What protects the port.
    pub door: Door,
    /// How the replicas are called.
    pub security: Security,
}

impl Args {
    /// Parses options as typed, program name not included; for tests and other programs.
    ///
    /// # Errors
    /// As the command line would say it.
    pub fn parse_from<'a>(options: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("preheat-balancer"));
        let matches = command.no_binary_name(true).try_get_matches_from(options)?;
        <Self as clap::FromArgMatches>::from_arg_matches(&matches)
    }
}

impl TryFrom<&Args> for Config {
    type Error = anyhow::Error;

    fn try_from(args: &Args) -> anyhow::Result<Self> {
        let least = limits::MAX_MESSAGE_BYTES as u64;
        ensure!(
            args.buffer_bytes >= least,
            "--buffer-bytes must be at least {least}, the largest message"
        );
        Ok(Self {
            sources: Sources::parse("--replicas", &args.replicas)?,
            listen: args.listen,
            metrics_listen: args.metrics_listen,
            settings: Settings {
                patience: Duration::from_secs(args.patience_seconds),
                scale_to_zero: args.scale_to_zero,
                ..Settings::default()
            },
            buffer_bytes: usize::try_from(args.buffer_bytes)?,
            connections: args.connections,
            drain: Duration::from_secs(args.drain_seconds),
            door: args.door.clone(),
            security: Security {
                ca_file: args.upstream.ca.clone(),
                client_cert: args.upstream.cert.clone(),
                client_key: args.upstream.key.clone(),
                server_name: args.upstream.name.clone(),
                token_file: args.upstream.token_file.clone(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let config = |options: &[&str]| -> anyhow::Result<Config> {
            Config::try_from(&Args::parse_from(options.iter().copied())?)
        };
        for (options, say) in [
            (&[][..], "--replicas"),
            (
                &["--replicas", "http://a:1", "--buffer-bytes", "7"],
                "--buffer-bytes",
            ),
            (
                &["--replicas", "http://a:1", "--connections", "0"],
                "--connections",
            ),
            (
                &["--replicas", "http://a:1", "--listen", "here"],
                "--listen",
            ),
        ] {
            let said = format!("{:#}", config(options).unwrap_err());
            assert!(said.contains(say), "{options:?} said: {said}");
        }
        let two = config(&["--replicas", "http://a:1,file:/replicas"]).unwrap();
        assert_eq!(two.drain, Duration::from_secs(30));
    }
}
