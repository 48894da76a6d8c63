//! A replica whose latents are the numbers that it reads in the pixels of what it was sent.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use preheat_clips::fixtures::read_colour;
use preheat_proto::{
    DType, ItemCode, ItemReply, META_VERSION, Meta, ReplyMeta, RequestMeta, Source,
    batch::{ArchivedItemMeta, archive},
    dtype::{tensor_bytes, tensor_stride},
    v1::{
        EncodeRequest, EncodeResponse, InfoRequest, InfoResponse, Limits, Model,
        encoder_server::{Encoder, EncoderServer},
    },
};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, async_trait, transport::Server};

/// Frames of a clip are multiples of this, and one.
pub(crate) const STEP: u32 = 4;

/// An item as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) source: Source,
    pub(crate) payloads: Vec<bytes::Bytes>,
    pub(crate) times: Vec<i64>,
    /// The output, and what is to be resized to it.
    pub(crate) output: [u32; 2],
    pub(crate) from: [u32; 2],
}

#[derive(Clone, Default)]
pub(crate) struct Reader {
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    calls: Arc<AtomicUsize>,
}

pub(crate) struct Replica {
    uri: String,
    pub(crate) reader: Reader,
    _runtime: Runtime,
}

impl Replica {
    pub(crate) fn start() -> Self {
        let reader = Reader::default();
        let service = EncoderServer::new(reader.clone())
            .max_decoding_message_size(preheat_proto::limits::MAX_REQUEST_BYTES);
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let incoming = TcpListenerStream::new(listener);
        runtime.spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        Self {
            uri,
            reader,
            _runtime: runtime,
        }
    }

    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    pub(crate) fn calls(&self) -> usize {
        self.reader.calls.load(SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.reader.seen.lock().unwrap().clone()
    }
}

/// The numbers in an item's frames; of a video as it is, its timestamps.
fn numbers(item: &ArchivedItemMeta, payloads: &[bytes::Bytes]) -> Result<Vec<f32>, String> {
    let number = |rgb: &[u8]| {
        let number = read_colour(rgb);
        number
            .map(|number| number as f32)
            .ok_or("no number in the pixels")
    };
    match Source::from(item.source) {
        Source::Video => Ok(item
            .times
            .iter()
            .map(|time| time.to_native() as f32)
            .collect()),
        Source::Rgb8 => Ok(payloads
            .iter()
            .map(|rgb| number(rgb))
            .collect::<Result<_, _>>()?),
        Source::Encoded => payloads
            .iter()
            .map(|payload| {
                let image = image::load_from_memory(payload).map_err(|error| error.to_string())?;
                let image = image.to_rgb8();
                let declared = (
                    item.source_width.to_native(),
                    item.source_height.to_native(),
                );
                if image.dimensions() != declared {
                    return Err(format!(
                        "{:?} where {declared:?} was said",
                        image.dimensions()
                    ));
                }
                Ok(number(image.as_raw())?)
            })
            .collect(),
    }
}

#[async_trait]
impl Encoder for Reader {
    async fn encode(
        &self,
        request: Request<EncodeRequest>,
    ) -> Result<Response<EncodeResponse>, Status> {
        self.calls.fetch_add(1, SeqCst);
        let request = request.into_inner();
        let meta = Meta::<RequestMeta>::open(request.meta_version, &request.meta).unwrap();
        let view = meta.view();
        view.check(request.payloads.len()).unwrap();
        let frames = view.frames.to_native();
        let [height, width] = [view.height.to_native(), view.width.to_native()];
        let time = (frames > 1).then(|| (frames - 1) / STEP + 1);
        let sides = [height / 8, width / 8];
        let shape: Vec<u32> = [4].into_iter().chain(time).chain(sides).collect();
        let bytes = tensor_bytes(&shape, DType::F32).unwrap();
        let mut latents = Vec::new();
        let mut items = Vec::new();
        let mut payloads = &request.payloads[..];
        for item in view.items.iter() {
            let (taken, rest) = payloads.split_at(item.payloads.to_native() as usize);
            payloads = rest;
            let numbers = numbers(item, taken);
            self.seen.lock().unwrap().push(Seen {
                source: item.source.into(),
                payloads: taken.to_vec(),
                times: item.times.iter().map(|time| time.to_native()).collect(),
                output: [width, height],
                from: [
                    item.source_width.to_native(),
                    item.source_height.to_native(),
                ],
            });
            let offset = latents.len();
            let (code, message) = match &numbers {
                Ok(_) => (ItemCode::Ok, String::new()),
                Err(reason) => (ItemCode::BadImage, reason.clone()),
            };
            if let Ok(numbers) = numbers {
                latents.extend(numbers.into_iter().flat_map(f32::to_le_bytes));
                assert!(
                    latents.len() <= offset + bytes,
                    "a test with too small a latent"
                );
                latents.resize(offset + tensor_stride(bytes).unwrap(), 0);
            }
            items.push(ItemReply {
                id: item.id.to_native(),
                offset: if code == ItemCode::Ok {
                    offset as u64
                } else {
                    0
                },
                code,
                message,
            });
        }
        let reply = ReplyMeta {
            dtype: DType::F32,
            posterior: view.posterior.into(),
            scale: view.scale.into(),
            shape,
            items,
        };
        Ok(Response::new(EncodeResponse {
            meta_version: META_VERSION,
            fingerprint: request.fingerprint,
            meta: archive(&reply).unwrap(),
            latents: latents.into(),
        }))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let model = Model {
            name: "video".into(),
            fingerprint: "0123".into(),
            latent_channels: 4,
            spatial_compression: 8,
            temporal_compression: STEP,
            frame_step: STEP,
            size_multiple: 8,
            has_posterior: true,
            preferred_batch_pixels: 2 * 5 * 64 * 64,
            ..Model::default()
        };
        Ok(Response::new(InfoResponse {
            version: "0".into(),
            meta_version: META_VERSION,
            models: vec![model],
            limits: Some(Limits {
                video_files: true,
                ..Limits::default()
            }),
        }))
    }
}
