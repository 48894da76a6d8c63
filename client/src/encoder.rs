//! One-off calls: images in, latents out, without a dataset and without an order.

mod cut;

use std::{io::Cursor, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use preheat_proto::{DType, Filter, Posterior, Scale, Source};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    balance::drive::Balancer,
    batch::{Latents, Tensor, join},
    config::{Config, Crop},
    dataset::{image_size, within_limits},
    embed::{Embedder, Item},
    error::Error,
    loader::Background,
    model::Model,
    plan::Size,
    reach::reach,
    security::Security,
    stack::stack,
    stats::{Recorder, Track},
};

/// Most images of one [`Request`]: more belong into a dataset, or into several requests.
pub const MAX_PICTURES: usize = 1 << 16;

/// Whom an [`Encoder`] asks, and for what.
#[derive(Clone, Debug)]
pub struct EncoderConfig {
    /// As [`Config::endpoint`](crate::Config::endpoint).
    pub endpoint: String,
    /// A model that it serves.
    pub model: String,
    /// TLS and tokens.
    pub security: Security,
    /// What of the posterior to return. Only `Mode` works for models without one.
    pub posterior: Posterior,
    /// Latents as the encoder leaves them, or as the diffusion model sees them.
    pub scale: Scale,
    /// Element type of the latents.
    pub dtype: DType,
    /// Interpolation of the resize.
    pub filter: Filter,
    /// How long to look for a replica at start.
    pub connect_timeout: Duration,
    /// How long one attempt at a request may take.
    pub attempt_timeout: Duration,
    /// How long a request may be retried while the replica is away.
    pub patience: Duration,
}

impl EncoderConfig {
    /// Posterior mode, normalised `f32`; the rest as [`Config::new`](crate::Config::new).
    pub fn new(endpoint: impl Into<String>, model: impl Into<String>) -> Self {
        let run = Config::new("", endpoint, model);
        Self {
            endpoint: run.endpoint,
            model: run.model,
            security: run.security,
            posterior: run.posterior,
            scale: run.scale,
            dtype: run.dtype,
            filter: run.filter,
            connect_timeout: run.connect_timeout,
            attempt_timeout: run.attempt_timeout,
            patience: run.patience,
        }
    }

    /// As a run of the loader, whose stack it is.
    fn run(self) -> Config {
        let mut run = Config::new("encoder", self.endpoint, self.model);
        run.security = self.security;
        run.posterior = self.posterior;
        run.scale = self.scale;
        run.dtype = self.dtype;
        run.filter = self.filter;
        run.connect_timeout = self.connect_timeout;
        run.attempt_timeout = self.attempt_timeout;
        run.patience = self.patience;
        run.trainer = Some("encoder".into());
        run
    }
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Picture {
    /// A JPEG, PNG or WebP file.
    File(Bytes),
    /// Rows of RGB pixels, one byte each: `height * width * 3`.
    Rgb8 {
        /// Of the image.
        size: Size,
        /// The pixels.
        pixels: Bytes,
    },
}

/// Images to be encoded together.
#[derive(Clone, Debug)]
pub struct Request {
    /// At most [`MAX_PICTURES`].
    pub pictures: Vec<Picture>,
    /// Size of the output images, in pixels: each is resized until it covers it, and cut. `None` for
    /// that of the images, which must then be of one size; sides that are no multiple of what the model
    /// takes lose a few pixels on both sides.
    pub size: Option<Size>,
    /// Where to cut.
    pub crop: Crop,
    /// Of crops and posterior draws.
    pub keys: Keys,
}

/// What the draws of a request are made from. They are the loader's: by seed, epoch and sample.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Seed of all draws.
    pub seed: u64,
    /// Of the samples.
    pub epoch: u64,
    /// The samples' ids, one for each image; `None` for the images' numbers.
    pub ids: Option<Vec<u64>>,
}

impl Keys {
    fn of(&self, number: usize) -> (u64, u64, u64) {
        let ids = self.ids.as_ref().and_then(|ids| ids.get(number));
        (self.seed, self.epoch, ids.copied().unwrap_or(number as u64))
    }
}

/// Latents, in the order of the images.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// One for each image; zeros for bad ones.
    pub latents: Latents,
    /// Size of the images that were encoded, in pixels.
    pub size: Size,
    /// The images that could not be encoded, by number, with reasons.
    pub bad: Vec<(usize, String)>,
}

/// Encodes images, any number of requests at once. Dropping it cancels what is under way.
pub struct Encoder {
    inner: Arc<Inner>,
    /// Held only: it speaks to the replicas.
    _balancer: Balancer,
    runtime: Background,
}

struct Inner {
    embedder: Embedder,
    model: Arc<Model>,
}

/// A request under way. Dropping it cancels it.
pub struct Pending {
    result: flume::Receiver<Result<Encoded, Error>>,
    _task: AbortOnDropHandle<()>,
}

impl Pending {
    /// Waits for the answer, at most so long; `None` if it is not there by then.
    ///
    /// # Errors
    /// The inner one: as [`Encoder::encode`].
    pub fn wait(&self, most: Duration) -> Option<Result<Encoded, Error>> {
        match self.result.recv_timeout(most) {
            Ok(result) => Some(result),
            Err(flume::RecvTimeoutError::Timeout) => None,
            Err(flume::RecvTimeoutError::Disconnected) => Some(Err(ended())),
        }
    }
}

fn ended() -> Error {
    Error::Internal("a request ended without an answer, or was asked for it twice".into())
}

impl Encoder {
    /// Finds the model.
    ///
    /// # Errors
    /// A config that makes no sense, nobody at the endpoint, a model that is not there or cannot do
    /// what is asked.
    pub fn new(config: EncoderConfig) -> Result<Self, Error> {
        let config = config.run();
        config.check()?;
        let runtime = Background::start(0)?;
        let (balancer, model) = reach(&config, &runtime)?;
        let model = Arc::new(model);
        let recorder = Recorder::new();
        let stack = stack(balancer.clone(), &config, recorder.clone());
        let embedder = Embedder::new(stack, model.clone(), &config, recorder);
        Ok(Self {
            inner: Arc::new(Inner { embedder, model }),
            _balancer: balancer,
            runtime,
        })
    }

    /// The model, as its replica describes it.
    pub fn model(&self) -> &Model {
        &self.inner.model
    }

    /// Encodes, and waits for it.
    ///
    /// # Errors
    /// [`Error::Config`] for a request that makes no sense, [`Error::Model`] for a size that the model
    /// does not take, [`Error::Call`] where replicas fail for good. An image that is bad is no error: see
    /// [`Encoded::bad`].
    pub fn encode(&self, request: Request) -> Result<Encoded, Error> {
        let pending = self.submit(request, || {})?;
        pending.result.recv().map_err(|_| ended())?
    }

    /// Begins to encode. `done` is called from another thread once the answer is there.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn submit(
        &self,
        request: Request,
        done: impl FnOnce() + Send + 'static,
    ) -> Result<Pending, Error> {
        if request.pictures.len() > MAX_PICTURES {
            let count = request.pictures.len();
            let reason = format!("are {count}, must be at most {MAX_PICTURES} in one call");
            return Err(Error::config("images", reason));
        }
        let sizes: Vec<_> = request.pictures.iter().map(Picture::size).collect();
        let size = cut::output(&sizes, request.size, &self.inner.model)?;
        let (sender, result) = flume::bounded(1);
        let inner = self.inner.clone();
        let task = self.runtime.handle().spawn(async move {
            // Fails only if nobody wants it any more.
            let _ = sender.send(inner.encode(request, sizes, size).await);
            done();
        });
        Ok(Pending {
            result,
            _task: AbortOnDropHandle::new(task),
        })
    }
}

impl Picture {
    /// With the EXIF orientation applied; or why the image is bad.
    fn size(&self) -> Result<Size, String> {
        match self {
            Self::File(bytes) => image_size(Cursor::new(bytes), bytes.len() as u64),
            Self::Rgb8 { size, pixels } => {
                let size = within_limits(*size)?;
                let wanted = size.area() * 3;
                (pixels.len() as u64 == wanted)
                    .then_some(size)
                    .ok_or_else(|| format!("{size} needs {wanted} bytes, has {}", pixels.len()))
            }
        }
    }

    fn payload(self) -> (Source, Bytes) {
        match self {
            Self::File(bytes) => (Source::Encoded, bytes),
            Self::Rgb8 { pixels, .. } => (Source::Rgb8, pixels),
        }
    }
}

impl Inner {
    async fn encode(
        &self,
        request: Request,
        sizes: Vec<Result<Size, String>>,
        size: Size,
    ) -> Result<Encoded, Error> {
        let (count, mut bad, mut items) = (sizes.len(), Vec::new(), Vec::new());
        let most = self.model.chunk_bytes();
        for (number, (picture, source)) in request.pictures.into_iter().zip(sizes).enumerate() {
            let key = request.keys.of(number);
            let how = (request.size.is_some(), request.crop);
            let transform = source.and_then(|source| cut::transform(how, key, source, size));
            let (source, payload) = picture.payload();
            match transform {
                Ok(_) if payload.len() as u64 > most => {
                    let bytes = payload.len();
                    bad.push((
                        number,
                        format!("has {bytes} bytes, and the replica takes {most}"),
                    ));
                }
                Ok(transform) => items.push(Item {
                    named: None,
                    id: number as u64,
                    seed: cut::posterior_seed(key),
                    transform,
                    source,
                    payloads: vec![payload],
                    times: Vec::new(),
                }),
                Err(reason) => bad.push((number, reason)),
            }
        }
        let chunks = cut::chunks(items, self.model.chunk_items(size), most);
        let calls = chunks.into_iter().map(|chunk| self.call(size, chunk));
        let bytes = self.model.tensor_bytes(size).unwrap_or(0);
        let zeros = Tensor {
            buffer: Bytes::from(vec![0; bytes]),
            offset: 0,
        };
        let mut tensors = vec![zeros; count];
        for answer in join_all(calls).await {
            for (number, tensor) in answer? {
                match tensor {
                    Ok(tensor) => tensors[number] = tensor,
                    Err(reason) => bad.push((number, reason)),
                }
            }
        }
        bad.sort_unstable_by_key(|(number, _)| *number);
        let expected = self.model.expected(size);
        let [channels, height, width] = expected.shape[..] else {
            return Err(Error::Internal("a latent of another rank than 3".into()));
        };
        let each = preheat_proto::dtype::tensor_bytes(&expected.shape, expected.dtype);
        Ok(Encoded {
            latents: Latents {
                dtype: expected.dtype,
                shape: vec![count as u32, channels, height, width],
                data: join(tensors, each.unwrap_or(0)),
            },
            size,
            bad,
        })
    }

    async fn call(
        &self,
        size: Size,
        items: Vec<Item>,
    ) -> Result<Vec<(usize, Result<Tensor, String>)>, Error> {
        let numbers: Vec<_> = items.iter().map(|item| item.id as usize).collect();
        let track = Track::begin();
        let asked = self.embedder.embed(size, items, (Instant::now(), &track));
        let chunk = asked.await.map_err(|error| Error::Call {
            what: format!("{} images from number {} on", numbers.len(), numbers[0]),
            code: error.code,
            message: error.message,
        })?;
        Ok(numbers.into_iter().zip(chunk.tensors).collect())
    }
}
