//! From the command line and the environment to plain values. Parsed here, once, at the edge.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};

use anyhow::{Context, bail};
use preheat_clips::Limits;
use preheat_models::{DType, Device, Found, Options, Source};
use preheat_proto::limits;

use crate::{engine::Settings, models::Models, security::Security};

/// Payload bytes inside the replica, not counting what is still being received.
const QUEUE_BYTES: usize = 1 << 30;

/// Options of a replica. For other programs: a clap group, to be embedded with `flatten`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A model to serve, and its name; may be repeated. SOURCE is a directory in the diffusers
    /// layout, `builtin:tiny` or, for clips, `builtin:wan` (untrained, for trying things out), or
    /// `synthetic[:channels=N,temporal-compression=N,ms-per-megapixel=N,version=N]` (no weights at
    /// all)
    #[arg(
        long = "model",
        value_name = "NAME=SOURCE",
        env = "PREHEAT_MODEL",
        value_delimiter = ';',
        required = true
    )]
    pub models: Vec<String>,

    /// Where to answer gRPC calls; port 0 takes a free one. The bound address is printed on stdout
    #[arg(
        long,
        value_name = "ADDR",
        env = "PREHEAT_LISTEN",
        default_value = "127.0.0.1:50051"
    )]
    pub listen: SocketAddr,

    /// Where to serve Prometheus metrics; without it there are none
    #[arg(long, value_name = "ADDR", env = "PREHEAT_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,

    /// Where the models run, of cpu, cuda:N and vulkan:N: each of them on each of these devices,
    /// batches going to whichever will have finished first; auto takes the best that there is
    #[arg(
        long,
        value_name = "DEVICE,...",
        env = "PREHEAT_DEVICE",
        default_value = "auto"
    )]
    pub device: String,

    /// What the models compute in: f32, f16, bf16, or auto to let each model and its device decide
    #[arg(
        long,
        value_name = "DTYPE",
        env = "PREHEAT_DTYPE",
        default_value = "auto"
    )]
    pub dtype: String,

    /// Encode large pictures in tiles, as diffusers does after `enable_tiling()`: bounds memory,
    /// changes latents and fingerprints
    #[arg(long, env = "PREHEAT_TILING")]
    pub tiling: bool,

    /// Encode the pictures of a batch one by one, as diffusers does after `enable_slicing()`
    #[arg(long, env = "PREHEAT_SLICING")]
    pub slicing: bool,

    /// Threads that decode images [default: one a core]
    #[arg(long, value_name = "N", env = "PREHEAT_DECODE_THREADS")]
    pub decode_threads: Option<NonZeroUsize>,

    /// Output pixels of a device batch [default: measured at the start; on the CPU what the model
    /// prefers]
    #[arg(long, value_name = "N", env = "PREHEAT_BATCH_PIXELS")]
    pub batch_pixels: Option<u64>,

    /// Items of a device batch, at most
    #[arg(
        long,
        value_name = "N",
        env = "PREHEAT_MAX_BATCH",
        default_value = "64"
    )]
    pub max_batch: NonZeroUsize,

    /// How long an idle device waits for items of the same shape that are still being decoded
    #[arg(long, value_name = "N", env = "PREHEAT_LINGER_MS", default_value = "5")]
    pub linger_ms: u64,

    /// Output pixels inside the replica; past it the answer is "busy"
    #[arg(
        long,
        value_name = "N",
        env = "PREHEAT_QUEUE_PIXELS",
        default_value = "268435456"
    )]
    pub queue_pixels: u32,

    /// Pixels that a source image may declare
    #[arg(
        long,
        value_name = "N",
        env = "PREHEAT_MAX_SOURCE_PIXELS",
        default_value_t = limits::MAX_SOURCE_PIXELS
    )]
    pub max_source_pixels: u64,

    /// Take no video files, only frames: then nothing here starts FFmpeg
    #[arg(long, env = "PREHEAT_NO_VIDEO_FILES")]
    pub no_video_files: bool,

    /// How long the FFmpeg that decodes a video file may keep us waiting, in seconds
    #[arg(
        long,
        value_name = "S",
        env = "PREHEAT_VIDEO_TIMEOUT",
        default_value = "60"
    )]
    pub video_timeout: NonZeroU32,

    /// Memory that it may take, in MiB
    #[arg(
        long,
        value_name = "N",
        env = "PREHEAT_VIDEO_MEMORY_MIB",
        default_value = "4096"
    )]
    pub video_memory_mib: NonZeroU32,

    /// After a reload, how long the weights before stay for runs that pin them and do not call
    #[arg(
        long,
        value_name = "S",
        env = "PREHEAT_RETIRE_AFTER",
        default_value = "3600"
    )]
    pub retire_after: u64,

    /// After SIGTERM, how long calls in flight may take to finish
    #[arg(
        long,
        value_name = "S",
        env = "PREHEAT_DRAIN_TIMEOUT",
        default_value = "30"
    )]
    pub drain_timeout: u64,

    /// Send a span of every call to this collector, for example http://collector:4317 (OTLP over
    /// gRPC; needs a build with `--features otlp`)
    #[arg(long, value_name = "URL", env = "PREHEAT_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,

    /// What protects the gRPC port
    #[command(flatten)]
    pub security: Security,
}

/// What a replica is to do: [`Args`], understood and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to answer.
    pub listen: SocketAddr,
    /// Where to serve metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// Names and sources of the models.
    pub models: Vec<(String, Source)>,
    /// Where they run: each on each.
    pub devices: Vec<Device>,
    /// What `auto` chose them from; empty where they were named.
    pub found: Vec<Found>,
    /// What they compute in; `None` leaves it to each of them.
    pub dtype: Option<DType>,
    /// Whether they tile large pictures.
    pub tiling: bool,
    /// Whether they encode pictures one by one.
    pub slicing: bool,
    /// The engine's bounds.
    pub engine: Settings,
    /// How long unused weights stay after newer ones have taken their name.
    pub retire_after: Duration,
    /// How long calls in flight may take to finish after the signal.
    pub drain_timeout: Duration,
    /// What protects the port.
    pub security: Security,
}

impl Args {
    /// Parses options as typed, program name not included; for tests and other programs.
    ///
    /// # Errors
    /// As the command line would say it.
    pub fn parse_from<'a>(options: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("preheat-server"));
        let matches = command.no_binary_name(true).try_get_matches_from(options)?;
        <Self as clap::FromArgMatches>::from_arg_matches(&matches)
    }
}

impl Args {
    /// What a video file may cost.
    fn video_limits(&self) -> Limits {
        let wall = Duration::from_secs(self.video_timeout.get().into());
        Limits {
            wall,
            // One thread cannot take more.
            cpu: wall,
            memory_bytes: u64::from(self.video_memory_mib.get()) << 20,
            source_pixels: self.max_source_pixels,
            ..Limits::default()
        }
    }
}

impl TryFrom<&Args> for Config {
    type Error = anyhow::Error;

    fn try_from(args: &Args) -> anyhow::Result<Self> {
        let mut models: Vec<(String, Source)> = Vec::with_capacity(args.models.len());
        for text in &args.models {
            let (name, source) = model(text)?;
            if models.iter().any(|(known, _)| *known == name) {
                bail!("--model {name}=... is given twice: names must differ");
            }
            models.push((name, source));
        }
        if args.max_source_pixels > limits::MAX_SOURCE_PIXELS {
            let limit = limits::MAX_SOURCE_PIXELS;
            bail!("--max-source-pixels may be at most {limit}, the limit of the protocol");
        }
        if args.queue_pixels == 0 || args.batch_pixels == Some(0) {
            bail!("--queue-pixels and --batch-pixels must be at least 1");
        }
        let (devices, found) = devices(&args.device)?;
        let cores = || available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            listen: args.listen,
            metrics_listen: args.metrics_listen,
            models,
            devices,
            found,
            dtype: match args.dtype.as_str() {
                "auto" => None,
                name => Some(name.parse().context("--dtype")?),
            },
            tiling: args.tiling,
            slicing: args.slicing,
            engine: Settings {
                decode_threads: args.decode_threads.map_or_else(cores, NonZeroUsize::get),
                batch_pixels: args.batch_pixels,
                max_batch: args.max_batch.get(),
                linger: Duration::from_millis(args.linger_ms),
                queue_pixels: args.queue_pixels,
                queue_bytes: QUEUE_BYTES,
                max_source_pixels: args.max_source_pixels,
                videos: (!args.no_video_files).then(|| args.video_limits()),
                align: limits::TENSOR_ALIGN,
            },
            retire_after: Duration::from_secs(args.retire_after),
            drain_timeout: Duration::from_secs(args.drain_timeout),
            security: args.security.clone(),
        })
    }
}

impl Config {
    /// Loads the models.
    ///
    /// # Errors
    /// What is missing, and where it was looked for.
    pub fn open_models(&self) -> anyhow::Result<Models> {
        if !self.found.is_empty() {
            let found: Vec<_> = self.found.iter().map(ToString::to_string).collect();
            let chosen: Vec<_> = self.devices.iter().map(ToString::to_string).collect();
            let (found, chosen) = (found.join(", "), chosen.join(", "));
            tracing::info!("--device auto found {found}: models run on {chosen}");
        }
        let names = self.models.iter().map(|(name, _)| name.clone()).collect();
        let labels = self.devices.iter().map(Device::to_string).collect();
        let (models, devices) = (self.models.clone(), self.devices.clone());
        let options = Options {
            dtype: self.dtype,
            tiling: self.tiling,
            slicing: self.slicing,
            ..Options::default()
        };
        let open = move |name: &str, index: usize| {
            let known = models.iter().find(|(known, _)| known == name);
            let (_, source) = known.with_context(|| format!("no --model {name}=..."))?;
            let device = devices[index];
            let options = Options { device, ..options };
            Ok(preheat_models::open_with(source, options)?)
        };
        Models::open(names, labels, Arc::new(open))
    }
}

/// The devices that are asked for, and where the choice was left to us, what there was to choose from.
fn devices(text: &str) -> anyhow::Result<(Vec<Device>, Vec<Found>)> {
    let found = match text {
        "auto" => preheat_models::devices(),
        _ => Vec::new(),
    };
    let chosen = preheat_models::choose(text, &found).context("--device")?;
    Ok((chosen, found))
}

fn model(text: &str) -> anyhow::Result<(String, Source)> {
    match text.split_once('=') {
        Some((name, source)) if !name.is_empty() && !source.is_empty() => {
            let source = source.parse().with_context(|| format!("--model {text}"))?;
            Ok((name.to_owned(), source))
        }
        _ => bail!("--model {text}: write NAME=SOURCE, for example tiny=builtin:tiny"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(options: &[&str]) -> anyhow::Result<Config> {
        Config::try_from(&Args::parse_from(options.iter().copied())?)
    }

    #[test]
    fn several_models_and_their_options() {
        let config = config(&[
            "--model",
            "a=synthetic:channels=16,version=2",
            "--model",
            "b=/x",
        ]);
        let models = config.unwrap().models;
        assert_eq!(models[0].0, "a");
        assert!(matches!(&models[0].1, Source::Synthetic(c) if c.channels == 16));
        assert_eq!(models[1], ("b".to_owned(), Source::Directory("/x".into())));
    }

    #[test]
    fn mistakes_are_named() {
        for (options, say) in [
            (vec![], "--model"),
            (vec!["--model", "tiny"], "NAME=SOURCE"),
            (vec!["--model", "a=synthetic:colour=red"], "colour=red"),
            (
                vec!["--model", "a=synthetic", "--model", "a=synthetic"],
                "twice",
            ),
            (vec!["--model", "a=synthetic", "--dtype", "fp8"], "fp8"),
            (vec!["--model", "a=synthetic", "--device", "tpu"], "tpu"),
            (
                vec!["--model", "a=synthetic", "--device", "cpu,cpu"],
                "twice in the list",
            ),
            (vec!["--model", "a=synthetic", "--device", ""], "device"),
            (
                vec!["--model", "a=synthetic", "--listen", "here"],
                "--listen",
            ),
            (
                vec!["--model", "a=synthetic", "--queue-pixels", "0"],
                "--queue-pixels",
            ),
        ] {
            let said = format!("{:#}", config(&options).unwrap_err());
            assert!(said.contains(say), "{options:?} said: {said}");
        }
    }
}
