//! The native handlers: wire → engine → wire. Besides the stack, health, errors and the second
//! protocol in `inference`, the only file that knows gRPC.

mod normalization;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use preheat_models::{Posterior, Scale, image};
use preheat_proto::{
    Code, DType, Error, ItemCode, ItemReply, META_VERSION, Meta, ReplyMeta, RequestMeta,
    batch::{ArchivedItemMeta, ArchivedRequestMeta, archive},
    limits, rope, v1,
};
use tonic::{Request, Response, Status};

use crate::{
    engine::{Answer, Call, Fault, Generation, Missing, Recipe, Refusal, Shape, Source, Ticket},
    orca::Cost,
    rarely::Rarely,
    stack::{Place, Shared, Timing},
};

/// Bytes of a reply's archive that messages of failed items may take together.
const MESSAGES_BYTES: usize = limits::MAX_META_BYTES / 2;

/// Lines about failed items: enough to see what is wrong with a folder, however bad it is. What is
/// left out is counted, in the next line and in the metrics.
static FAILED_ITEMS: Rarely = Rarely::new(20, Duration::from_secs(1));

/// The service `preheat.v1.Encoder`.
#[derive(Clone, Debug)]
pub(crate) struct Handlers {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl v1::encoder_server::Encoder for Handlers {
    async fn encode(
        &self,
        request: Request<v1::EncodeRequest>,
    ) -> Result<Response<v1::EncodeResponse>, Status> {
        let (_, mut extensions, request) = request.into_parts();
        let request = rope::arriving(&mut extensions, request);
        let passed = Passed::through(&extensions)?;
        rope::response(self.answer(request, passed).await?)
    }

    async fn info(
        &self,
        _: Request<v1::InfoRequest>,
    ) -> Result<Response<v1::InfoResponse>, Status> {
        let engine = &self.shared.engine;
        let pixels = u64::from(engine.queue().pixels_limit());
        let videos = Arc::clone(engine.videos());
        let video_files = tokio::task::spawn_blocking(move || videos.are_taken());
        let video_files = video_files.await.unwrap_or(false);
        Ok(Response::new(v1::InfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            meta_version: META_VERSION,
            models: engine
                .catalogue()
                .list()
                .iter()
                .map(|all| describe(all))
                .collect(),
            limits: Some(v1::Limits {
                max_items: limits::MAX_ITEMS as u32,
                max_message_bytes: limits::MAX_MESSAGE_BYTES as u64,
                max_source_pixels: engine.max_source_pixels(),
                max_output_pixels: limits::MAX_OUTPUT_PIXELS.min(pixels),
                video_files,
                max_request_bytes: limits::MAX_REQUEST_BYTES as u64,
            }),
        }))
    }
}

/// What a call brings along from the layers.
#[derive(Debug)]
pub(crate) struct Passed {
    /// Its place, if a header asked for one.
    ticket: Option<Ticket>,
    timing: Timing,
}

impl Passed {
    /// Takes it out of a request's extensions.
    ///
    /// # Errors
    /// `INTERNAL` where the stack is put together wrongly.
    pub(crate) fn through(extensions: &tonic::Extensions) -> Result<Self, Status> {
        let timing = extensions.get::<Timing>().copied();
        Ok(Self {
            ticket: extensions.get::<Place>().and_then(Place::take),
            timing: timing.ok_or_else(|| Status::internal("the deadline layer is missing"))?,
        })
    }
}

impl Handlers {
    /// Serves a call, whichever protocol it came by, while it is still being received.
    ///
    /// # Errors
    /// Why nothing in it can be served.
    pub(crate) async fn answer(
        &self,
        mut arriving: rope::Arriving,
        Passed { ticket, timing }: Passed,
    ) -> Result<Response<v1::EncodeResponse>, Status> {
        let request = arriving.small().await?;
        let meta = Meta::<RequestMeta>::open(request.meta_version, &request.meta)?;
        let asked = meta.view();
        asked.expects()?;
        let model = self.model(&request)?;
        let fingerprint = model.spec.fingerprint.to_string();
        let ticket = self.admit(ticket, asked.cost_pixels(), timing.patience())?;
        let call = Call {
            model,
            shape: Shape {
                width: asked.width.to_native(),
                height: asked.height.to_native(),
                frames: asked.frames.to_native(),
            },
            dtype: compute_dtype(asked.dtype.into()),
            scale: match asked.scale.into() {
                preheat_proto::Scale::Raw => Scale::Raw,
                preheat_proto::Scale::Normalized => Scale::Normalized,
            },
            needed: timing.needed,
            deadline: timing.deadline,
            items: recipes(asked),
        };
        let (answer, began) = self.serve(call, ticket, arriving).await?;
        let (meta, latents) = self.reply(asked, &request.model, answer)?;
        let cost = Cost {
            pixels: asked.cost_pixels(),
            time: began.elapsed(),
        };
        let mut response = Response::new(v1::EncodeResponse {
            meta_version: META_VERSION,
            fingerprint,
            meta,
            latents,
        });
        response.extensions_mut().insert(cost);
        Ok(response)
    }

    /// Hands payloads to the engine as they come; the answer, and when the last had come.
    async fn serve(
        &self,
        call: Call,
        ticket: Ticket,
        mut arriving: rope::Arriving,
    ) -> Result<(Answer, Instant), Status> {
        let refused = |refusal: Refusal| {
            self.shared.metrics.shed(&refusal);
            Error::from(refusal)
        };
        let mut underway = self.shared.engine.begin(call, ticket).map_err(refused)?;
        while let Some(payload) = arriving.payload().await? {
            underway.feed(payload).await.map_err(refused)?;
        }
        let began = Instant::now();
        let answer = underway.answer().await.map_err(refused)?;
        Ok((answer, began))
    }

    fn model(&self, request: &v1::EncodeRequest) -> Result<Arc<Generation>, Error> {
        self.find(&request.model, &request.fingerprint)
    }

    /// The weights of a model: those of this fingerprint, or where it is empty the newest.
    ///
    /// # Errors
    /// [`Code::UnknownModel`], naming those served; [`Code::WrongFingerprint`], naming those of the
    /// model.
    pub(crate) fn find(&self, model: &str, fingerprint: &str) -> Result<Arc<Generation>, Error> {
        let found = self.shared.engine.model(model, fingerprint);
        found.map_err(|missing| match missing {
            Missing::Name(served) => Error::new(
                Code::UnknownModel,
                format!(
                    "no model `{}` here: served are {}",
                    shorten(model, limits::MAX_ITEM_MESSAGE_BYTES),
                    served.join(", ")
                ),
            ),
            Missing::Fingerprint(served) => {
                let served: Vec<_> = served.iter().map(ToString::to_string).collect();
                Error::new(
                    Code::WrongFingerprint,
                    format!(
                        "model `{model}` is served here with fingerprint {}, but the call wants \
                         {}: its weights, config or dtype differ",
                        served.join(" and, to those that pin it, "),
                        shorten(fingerprint, served[0].len())
                    ),
                )
            }
        })
    }

    fn admit(
        &self,
        ticket: Option<Ticket>,
        pixels: u64,
        patience: Duration,
    ) -> Result<Ticket, Error> {
        let queue = self.shared.engine.queue();
        let admit = || {
            let mut ticket = ticket.map_or_else(|| queue.admit(pixels, patience), Ok)?;
            queue.settle(&mut ticket, pixels)?;
            Ok(ticket)
        };
        admit().map_err(|refusal: Refusal| {
            self.shared.metrics.shed(&refusal);
            refusal.into()
        })
    }

    fn reply(
        &self,
        asked: &ArchivedRequestMeta,
        model: &str,
        answer: Answer,
    ) -> Result<(Bytes, Bytes), Error> {
        let metrics = &self.shared.metrics;
        let longest = limits::MAX_ITEM_MESSAGE_BYTES.min(MESSAGES_BYTES / answer.items.len());
        let item = |(index, (asked, outcome)): (usize, (&ArchivedItemMeta, _))| {
            let id = asked.id.to_native();
            let (offset, code, message) = match outcome {
                Ok(offset) => (offset, ItemCode::Ok, String::new()),
                Err(Fault { kind, message }) => {
                    if let Some(left_out) = FAILED_ITEMS.may() {
                        let code = ItemCode::from(kind);
                        tracing::warn!(
                            model,
                            id,
                            index,
                            ?code,
                            message,
                            left_out,
                            "an item failed"
                        );
                    }
                    metrics.items_failed(kind).increment(1);
                    (0, kind.into(), shorten(&message, longest).to_owned())
                }
            };
            ItemReply {
                id,
                offset: offset as u64,
                code,
                message,
            }
        };
        let items: Vec<_> = asked
            .items
            .iter()
            .zip(answer.items)
            .enumerate()
            .map(item)
            .collect();
        if items.iter().any(|item| item.code == ItemCode::Internal) {
            self.shared.fault_rate.tick(Instant::now());
        }
        let good = items.iter().filter(|item| item.code == ItemCode::Ok);
        metrics.items_ok.increment(good.count() as u64);
        let [channels, frames, height, width] = answer.shape.map(|side| side as u32);
        let meta = archive(&ReplyMeta {
            dtype: asked.dtype.into(),
            posterior: asked.posterior.into(),
            scale: asked.scale.into(),
            shape: match asked.frames.to_native() {
                1 => vec![channels, height, width],
                _ => vec![channels, frames, height, width],
            },
            items,
        })?;
        Ok((meta, answer.latents.into()))
    }
}

fn recipes(asked: &ArchivedRequestMeta) -> Vec<Recipe> {
    let recipe = |item: &ArchivedItemMeta| Recipe {
        payloads: item.payloads.to_native() as usize,
        source: match item.source.into() {
            preheat_proto::Source::Encoded => Source::Encoded,
            preheat_proto::Source::Rgb8 => Source::Rgb8,
            preheat_proto::Source::Video => {
                Source::Video(item.times.iter().map(|time| time.to_native()).collect())
            }
        },
        source_size: [
            item.source_width.to_native(),
            item.source_height.to_native(),
        ],
        transform: image::Transform {
            resize: [
                item.resize_width.to_native(),
                item.resize_height.to_native(),
            ],
            crop: [item.crop_x.to_native(), item.crop_y.to_native()],
            size: [asked.width.to_native(), asked.height.to_native()],
            filter: match item.filter.into() {
                preheat_proto::Filter::Bilinear => image::Filter::Bilinear,
                preheat_proto::Filter::Bicubic => image::Filter::Bicubic,
                preheat_proto::Filter::Lanczos => image::Filter::Lanczos,
            },
            flip: item.flip,
        },
        posterior: match asked.posterior.into() {
            preheat_proto::Posterior::Mode => Posterior::Mode,
            preheat_proto::Posterior::Sample => Posterior::Sample(item.seed.to_native()),
            preheat_proto::Posterior::Moments => Posterior::Moments,
        },
    };
    asked.items.iter().map(recipe).collect()
}

/// All that is served under one name, the newest first.
fn describe(generations: &[Arc<Generation>]) -> v1::Model {
    let spec = &generations[0].spec;
    let older = generations[1..].iter();
    v1::Model {
        name: generations[0].name.clone(),
        fingerprint: spec.fingerprint.to_string(),
        class_name: spec.class.clone(),
        device: spec.device.to_string(),
        compute_dtype: v1::DType::from(wire_dtype(spec.dtype)).into(),
        latent_channels: spec.latent_channels as u32,
        spatial_compression: spec.spatial_compression as u32,
        temporal_compression: spec.temporal_compression as u32,
        size_multiple: spec.size_multiple as u32,
        has_posterior: spec.has_posterior,
        untrained: spec.untrained,
        preferred_batch_pixels: spec.preferred_batch_pixels,
        older_fingerprints: older.map(|old| old.spec.fingerprint.to_string()).collect(),
        normalization: Some(normalization::describe(&spec.norm)),
        frame_step: spec.frame_step as u32,
    }
}

fn compute_dtype(dtype: DType) -> preheat_models::DType {
    match dtype {
        DType::F32 => preheat_models::DType::F32,
        DType::F16 => preheat_models::DType::F16,
        DType::BF16 => preheat_models::DType::BF16,
    }
}

fn wire_dtype(dtype: preheat_models::DType) -> DType {
    match dtype {
        preheat_models::DType::F32 => DType::F32,
        preheat_models::DType::F16 => DType::F16,
        preheat_models::DType::BF16 => DType::BF16,
    }
}

/// At most so many bytes of a text, cut between characters.
pub(crate) fn shorten(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
