//! What a run is. Plain data: parsed at the edge by whoever has a command line.

mod check;

use std::{path::PathBuf, time::Duration};

use preheat_proto::{DType, Filter, Posterior, Scale};

pub use crate::plan::{
    Block, Crop, Pace, Rate, Shuffle, SmallBuckets, Start, Subset, Tail, Weights,
};
pub use crate::wire::{DEFAULT_CONNECTIONS, MAX_CONNECTIONS};
use crate::{
    cache::CacheConfig,
    dataset::{Check, Format, Mix, StoreOptions},
    plan::{Buckets, ClipSpec, PlanSpec, Size, TransformSpec},
    security::Security,
    state::State,
};

/// Sides of output images are multiples of one of these.
pub const BUCKET_STEPS: [u32; 4] = [8, 16, 32, 64];
/// Default of [`Config::global_batch`].
pub const DEFAULT_GLOBAL_BATCH: u32 = 32;
/// Default of [`Config::target_area`]: 512 by 512.
pub const DEFAULT_TARGET_AREA: u64 = 512 * 512;
/// Default of [`Config::bucket_step`].
pub const DEFAULT_BUCKET_STEP: u32 = 64;
/// Default of [`Config::max_aspect`].
pub const DEFAULT_MAX_ASPECT: f64 = 2.0;
/// Default of [`Config::window_bytes`].
pub const DEFAULT_WINDOW_BYTES: u64 = 1 << 30;
/// Default of [`Config::max_batches_ahead`]: so many that bytes are the bound, for all but tiny batches.
pub const DEFAULT_BATCHES_AHEAD: u32 = 1024;
/// Default of [`Config::connect_timeout`].
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Default of [`Config::attempt_timeout`].
pub const DEFAULT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(300);
/// Default of [`Config::patience`].
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(120);

/// Default of [`ClipEncoding::Jpeg`]: latents differ from those of lossless frames by less than a
/// posterior's own noise.
pub const DEFAULT_JPEG_QUALITY: u8 = 95;
/// Default of [`Config::clip_timeout`]: a hundred times what a clip takes to decode.
pub const DEFAULT_CLIP_TIMEOUT: Duration = Duration::from_secs(120);
/// Most [`Config::clip_decoders`].
pub const MAX_CLIP_DECODERS: u32 = 512;

/// Default of [`Config::max_bad_share`].
pub const DEFAULT_MAX_BAD_SHARE: f64 = 0.1;

/// Largest [`Config::global_batch`].
pub const MAX_GLOBAL_BATCH: u32 = 1 << 20;
/// Largest [`Config::max_aspect`].
pub const MAX_ASPECT: f64 = 16.0;
/// Largest [`Config::max_batches_ahead`].
pub const MAX_BATCHES_AHEAD: u32 = 4096;
/// Largest [`Config::window_bytes`]: 1 TiB.
pub const MAX_WINDOW_BYTES: u64 = 1 << 40;
/// Longest [`Config::connect_timeout`].
pub const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest name of a trainer that is shown.
pub const MAX_TRAINER_NAME: usize = 64;
/// Longest [`Config::patience`] and [`Config::attempt_timeout`].
pub const MAX_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// What to do about a sample that cannot be read or encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSamples {
    /// Stop with an error that names the file and the reason.
    Fail,
    /// Put in the next good sample of the same bucket's epoch order; count and report it.
    Substitute,
    /// Leave its place empty: the latent is zeros and [`SampleInfo::valid`](crate::SampleInfo::valid)
    /// is false, so shapes stay as they are, and nothing is trained on twice. Count and report it.
    Skip,
}

/// In what form the frames of videos are sent. Videos of JPEGs (MJPEG, upright, with square pixels), and
/// directories of images, are sent as they lie, whatever else is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClipEncoding {
    /// Decoded and resized on this machine, then as JPEG of this quality, 1 to 100.
    Jpeg {
        /// As the Independent JPEG Group counts it; colours in full resolution from 90 on.
        quality: u8,
    },
    /// Decoded and resized on this machine, without loss.
    Png,
    /// The same, three bytes a pixel: no work, and the most bytes.
    Rgb8,
    /// The whole file, decoded beside the encoder. Takes no processor here, and sends all of a video for
    /// a part of it.
    AsIs,
}

/// Which output sizes there are, and how a sample gets its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bucketing {
    /// By aspect ratio, at [`Config::target_area`].
    Aspect,
    /// By aspect ratio, at each of these areas in pixels instead; of the nearest size at every
    /// area, the largest that does not enlarge the image, or the smallest where all would.
    Areas(Vec<u64>),
    /// These sizes; the nearest by aspect ratio, and of equally near ones the largest that does not
    /// enlarge the image, or the smallest where all would. `target_area`, `bucket_step` and
    /// `max_aspect` do not count.
    Sizes(Vec<Size>),
}

/// A run of the loader.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the samples are: a folder, or a URI. See [`Source`](crate::Source). Empty where they are in
    /// several datasets; see [`Self::mix`].
    pub dataset: PathBuf,
    /// Several datasets instead, each with a store, a format and an index of its own.
    pub mix: Option<Mix>,
    /// How to reach them, where they are elsewhere.
    pub store: StoreOptions,
    /// How they lie there; `None` to find out.
    pub format: Option<Format>,
    /// The file of the dataset's index, made where there is none; `None` for one in the user's cache
    /// folder.
    pub index: Option<PathBuf>,
    /// Whether to compare the index with the dataset.
    pub index_check: Check,
    /// Where the replicas are, or a balancer in front of them: `http://gpu-1:7000`, or `https://...`
    /// where they speak TLS; several, separated by commas; `dns+http://name:port` for every address
    /// of a name; `file:path` for a list that is followed as it changes. See [`crate::balance`].
    pub endpoint: String,
    /// TLS and tokens.
    pub security: Security,
    /// A model that it serves.
    pub model: String,
    /// Samples of one step, over all ranks.
    pub global_batch: u32,
    /// Which of the ranks this loader feeds.
    pub rank: u32,
    /// Number of ranks. Must divide `global_batch`.
    pub world_size: u32,
    /// Seed of order, crops, flips and posterior draws.
    pub seed: u64,
    /// Stop after this many epochs; `None` for never.
    pub epochs: Option<u64>,
    /// Pixels of an output image, approached from below.
    pub target_area: u64,
    /// Sides of output images are multiples of this: one of [`BUCKET_STEPS`].
    pub bucket_step: u32,
    /// Most elongated output: longer over shorter side.
    pub max_aspect: f64,
    /// Which output sizes there are, and how a sample gets its own.
    pub bucketing: Bucketing,
    /// Frames of a clip: a video gives the most of these that it can. With 1 among them, images take
    /// part, and so do videos too short for the others. Empty for a run of images, whose latents have no
    /// axis for time; with lengths here all have one, also those of single frames.
    pub frames: Vec<u32>,
    /// How far apart the frames of a clip are.
    pub pace: Pace,
    /// Where in its video a clip begins.
    pub clip_start: Start,
    /// In what form frames are sent.
    pub clip_encoding: ClipEncoding,
    /// Videos decoded at once on this machine, each by a process that takes a core; `None` for one a core,
    /// and two at least.
    pub clip_decoders: Option<u32>,
    /// How long decoding one clip may keep waiting, and how much processor time it may take; then it is a
    /// bad sample.
    pub clip_timeout: Duration,
    /// What becomes of buckets with few samples.
    pub small_buckets: SmallBuckets,
    /// Which samples take part.
    pub subset: Subset,
    /// How often each of them is delivered in an epoch.
    pub repeats: u32,
    /// The same by sample, times `repeats`.
    pub weights: Weights,
    /// Interpolation of the resize; [`crate::filter::by_name`] knows what other libraries call it.
    pub filter: Filter,
    /// Probability of mirroring a sample left to right.
    pub flip: f32,
    /// Where to cut after the resize, and how much of the image to show.
    pub crop: Crop,
    /// Probability that [`SampleInfo::caption_dropped`](crate::SampleInfo::caption_dropped) tells
    /// the trainer to use an empty caption.
    pub caption_dropout: f32,
    /// What of the posterior to deliver. Only `Mode` works for models without one.
    pub posterior: Posterior,
    /// Latents as the encoder leaves them, or as the diffusion model sees them.
    pub scale: Scale,
    /// Element type of the latents.
    pub dtype: DType,
    /// Order of samples and of batches.
    pub shuffle: Shuffle,
    /// What becomes of a bucket's last, incomplete batch.
    pub tail: Tail,
    /// What to do about a sample that cannot be read or encoded.
    pub bad_samples: BadSamples,
    /// Different bad samples that this loader may deliver batches without; with one more the run
    /// fails. `None` for any number. Neither this nor the policy is part of [`State`]: a run that
    /// failed may be resumed with others.
    pub max_bad_samples: Option<u64>,
    /// The same as a part, 0 to 1, of the samples delivered so far, repetitions included; judged from
    /// [`LEAST_SEEN`](crate::LEAST_SEEN) samples on. 1 for any.
    pub max_bad_share: f64,
    /// A file that gets one line of JSON for each bad sample, as soon as it is met: `id`, `key`,
    /// `reason`, and the `epoch` and `step` where it was met. Lines of earlier runs stay, and their
    /// samples are not written again. If it cannot be written, the log says so, and the run goes on.
    pub bad_sample_report: Option<PathBuf>,
    /// Bytes of files and latents held for batches that the trainer has not taken yet. A batch
    /// larger than this is still loaded, alone.
    pub window_bytes: u64,
    /// Batches held or under way that the trainer has not taken yet.
    pub max_batches_ahead: u32,
    /// Most samples of one request; `None` leaves it to pixels and to the replica's limits.
    pub chunk_items: Option<u32>,
    /// Output pixels of one request; `None` for what the model says it likes.
    pub chunk_pixels: Option<u64>,
    /// Who asks, for balancers that share a fleet between trainers: one name for all ranks of a run.
    /// `None` for the folder's name, or those of the mix's sources, and the seed.
    pub trainer: Option<String>,
    /// This trainer's part of a fleet that others use too, in proportion to theirs.
    pub weight: f64,
    /// Connections to a replica, at most; made only as calls overlap.
    pub connections: u32,
    /// How long to look for a replica at start.
    pub connect_timeout: Duration,
    /// How long one attempt at a request may take.
    pub attempt_timeout: Duration,
    /// How long a request may be retried while the replica is away.
    pub patience: Duration,
    /// To learn what the trainer could do if data were free: the first batch of every shape is loaded,
    /// and delivered again and again ([`Batch::replayed`](crate::Batch::replayed)), with the places
    /// and the ends of epochs of a real run. Not for training.
    pub headspace: bool,
    /// Where to keep latents for later epochs and runs; `None` for nowhere. Changes nothing that is
    /// delivered.
    pub cache: Option<CacheConfig>,
    /// Where to start; the beginning if `None`.
    pub resume: Option<State>,
}

impl Config {
    /// One rank, seed 0, shuffled, centre crop, no flip, posterior mode, normalised `f32`, tails
    /// padded, bad samples fail; the rest as the `DEFAULT_` constants of this module say.
    pub fn new(
        dataset: impl Into<PathBuf>,
        endpoint: impl Into<String>,
        model: impl Into<String>,
    ) -> Self {
        Self {
            dataset: dataset.into(),
            mix: None,
            store: StoreOptions::default(),
            format: None,
            index: None,
            index_check: Check::Always,
            endpoint: endpoint.into(),
            security: Security::default(),
            model: model.into(),
            global_batch: DEFAULT_GLOBAL_BATCH,
            rank: 0,
            world_size: 1,
            seed: 0,
            epochs: None,
            target_area: DEFAULT_TARGET_AREA,
            bucket_step: DEFAULT_BUCKET_STEP,
            max_aspect: DEFAULT_MAX_ASPECT,
            bucketing: Bucketing::Aspect,
            frames: Vec::new(),
            pace: Pace::Stride(1),
            clip_start: Start::Random,
            clip_encoding: ClipEncoding::Jpeg {
                quality: DEFAULT_JPEG_QUALITY,
            },
            clip_decoders: None,
            clip_timeout: DEFAULT_CLIP_TIMEOUT,
            small_buckets: SmallBuckets::Keep,
            subset: Subset::All,
            repeats: 1,
            weights: Weights::Equal,
            filter: Filter::Lanczos,
            flip: 0.0,
            crop: Crop::Center,
            caption_dropout: 0.0,
            posterior: Posterior::Mode,
            scale: Scale::Normalized,
            dtype: DType::F32,
            shuffle: Shuffle::Full,
            tail: Tail::Pad,
            bad_samples: BadSamples::Fail,
            max_bad_samples: None,
            max_bad_share: DEFAULT_MAX_BAD_SHARE,
            bad_sample_report: None,
            window_bytes: DEFAULT_WINDOW_BYTES,
            max_batches_ahead: DEFAULT_BATCHES_AHEAD,
            chunk_items: None,
            chunk_pixels: None,
            trainer: None,
            weight: 1.0,
            connections: DEFAULT_CONNECTIONS,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            attempt_timeout: DEFAULT_ATTEMPT_TIMEOUT,
            patience: DEFAULT_PATIENCE,
            headspace: false,
            cache: None,
            resume: None,
        }
    }

    /// The same over several datasets.
    pub fn mixed(mix: Mix, endpoint: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            mix: Some(mix),
            ..Self::new("", endpoint, model)
        }
    }

    /// How this trainer calls itself: printable ASCII, as headers want it.
    pub(crate) fn trainer(&self) -> String {
        let data = match &self.mix {
            None => {
                let folder = self.dataset.file_name();
                let folder = folder.unwrap_or(self.dataset.as_os_str());
                folder.to_string_lossy().into_owned()
            }
            Some(mix) => {
                let names = mix.sources.iter().map(|source| &*source.name);
                names.collect::<Vec<_>>().join("+")
            }
        };
        let name = match &self.trainer {
            Some(name) => name.clone(),
            None => format!("{data}-{}", self.seed),
        };
        let plain = |c: char| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else {
                '_'
            }
        };
        name.chars().take(MAX_TRAINER_NAME).map(plain).collect()
    }

    /// How clips are cut out of videos; `None` for a run of images.
    pub fn clip_spec(&self) -> Option<ClipSpec> {
        (!self.frames.is_empty()).then(|| ClipSpec {
            frames: self.frames.clone(),
            pace: self.pace,
            start: self.clip_start,
        })
    }

    /// What the order depends on: with what [`Dataset::delivered`](crate::Dataset::delivered) gives, the
    /// [`Plan`](crate::plan::Plan) that its loaders follow.
    pub fn plan_spec(&self) -> PlanSpec {
        let (step, max_aspect) = (self.bucket_step, self.max_aspect);
        PlanSpec {
            seed: self.seed,
            global_batch: self.global_batch,
            shuffle: self.shuffle.clone(),
            tail: self.tail,
            buckets: match &self.bucketing {
                Bucketing::Aspect => Buckets::Aspect {
                    area: self.target_area,
                    step,
                    max_aspect,
                },
                Bucketing::Areas(areas) => Buckets::Areas {
                    areas: areas.clone(),
                    step,
                    max_aspect,
                },
                Bucketing::Sizes(sizes) => Buckets::Sizes(sizes.clone()),
            },
            small_buckets: self.small_buckets,
            subset: self.subset.clone(),
            repeats: self.repeats,
            weights: self.weights.clone(),
            shares: self.mix.as_ref().map(Mix::shares),
            transform: TransformSpec {
                crop: self.crop,
                flip: self.flip,
            },
            clips: self.clip_spec(),
        }
    }
}
