//! A replica on port 0 and a caller for it.

use std::{collections::HashMap, future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use preheat_models::{Encoder, Error, Moments, Pixels, Spec, synthetic::Synthetic};
use preheat_proto::{
    DType, Filter, ItemCode, ItemMeta, META_VERSION, Meta, Posterior, ReplyMeta, RequestMeta,
    Scale, Source, batch::archive, v1, v1::encoder_client::EncoderClient,
};
use preheat_server::{Args, Config, Model, Models};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{Code, Request, Status, transport::Channel};

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Fails the test instead of waiting for ever.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("this took too long")
}

/// A replica in this process.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    pub(crate) channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    done: JoinHandle<anyhow::Result<()>>,
}

impl Replica {
    /// With options as typed.
    pub(crate) async fn start(options: &[&str]) -> Self {
        let config = config(options);
        let models = config.open_models().unwrap();
        Self::serve(config, models).await
    }

    /// With encoders made by the test.
    pub(crate) async fn with_models(options: &[&str], models: impl Into<Models>) -> Self {
        let placeholder = ["--model", "unused=synthetic"];
        let config = config(&[options, &placeholder].concat());
        Self::serve(config, models.into()).await
    }

    async fn serve(config: Config, models: Models) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let done = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            preheat_server::serve(listener, models, &config, shutdown).await
        });
        // Lazy: a replica that speaks TLS has no use for it.
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        let channel = channel.connect_lazy();
        Self {
            address,
            channel,
            stop: Some(stop),
            done,
        }
    }

    pub(crate) fn client(&self) -> EncoderClient<Channel> {
        client(self.channel.clone())
    }

    pub(crate) async fn encode(&self, ask: &Ask) -> Result<Reply, Status> {
        ask.send(&mut self.client()).await
    }

    /// Asks for the drain, without waiting for it.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn stopped(self) {
        let Self { stop, done, .. } = self;
        drop(stop);
        soon(done).await.unwrap().unwrap();
    }
}

pub(crate) async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    soon(endpoint.connect()).await.unwrap()
}

pub(crate) fn client(channel: Channel) -> EncoderClient<Channel> {
    EncoderClient::new(channel).max_decoding_message_size(64 << 20)
}

pub(crate) fn config(options: &[&str]) -> Config {
    let args = Args::parse_from(options.iter().copied()).unwrap();
    Config::try_from(&args).unwrap()
}

/// A request in the making.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) model: String,
    pub(crate) fingerprint: String,
    pub(crate) meta: RequestMeta,
    pub(crate) payloads: Vec<Bytes>,
    pub(crate) headers: HashMap<&'static str, String>,
}

impl Ask {
    /// For outputs of this size from model `m`, raw f32, mode.
    pub(crate) fn new(width: u32, height: u32) -> Self {
        Self {
            model: "m".into(),
            fingerprint: String::new(),
            meta: RequestMeta {
                width,
                height,
                frames: 1,
                dtype: DType::F32,
                posterior: Posterior::Mode,
                scale: Scale::Raw,
                items: vec![],
            },
            payloads: vec![],
            headers: HashMap::new(),
        }
    }

    /// Adds a file, cut at (x, y) without a resize.
    pub(crate) fn file(mut self, bytes: &'static [u8], [w, h]: [u32; 2], [x, y]: [u32; 2]) -> Self {
        self.meta.items.push(ItemMeta {
            id: 100 + self.meta.items.len() as u64,
            seed: 0,
            source_width: w,
            source_height: h,
            resize_width: w,
            resize_height: h,
            crop_x: x,
            crop_y: y,
            payloads: 1,
            source: Source::Encoded,
            filter: Filter::Lanczos,
            flip: false,
            times: vec![],
        });
        self.payloads.push(Bytes::from_static(bytes));
        self
    }

    /// Adds raw pixels of one grey, the size of the output.
    pub(crate) fn grey(self, value: u8) -> Self {
        let size = [self.meta.width, self.meta.height];
        let mut ask = self.file(&[], size, [0, 0]);
        let last = ask.meta.items.last_mut().unwrap();
        last.source = Source::Rgb8;
        let bytes = size[0] as usize * size[1] as usize * 3;
        *ask.payloads.last_mut().unwrap() = vec![value; bytes].into();
        ask
    }

    /// Mirrors the item added last.
    pub(crate) fn flipped(mut self) -> Self {
        self.meta.items.last_mut().unwrap().flip = true;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.insert(name, value.to_string());
        self
    }

    pub(crate) fn request(&self) -> Request<v1::EncodeRequest> {
        let mut request = Request::new(v1::EncodeRequest {
            meta_version: META_VERSION,
            model: self.model.clone(),
            fingerprint: self.fingerprint.clone(),
            meta: archive(&self.meta).unwrap(),
            payloads: self.payloads.clone(),
        });
        for (name, value) in &self.headers {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        request
    }

    pub(crate) async fn send(&self, client: &mut EncoderClient<Channel>) -> Result<Reply, Status> {
        let response = soon(client.encode(self.request())).await?.into_inner();
        Ok(Reply::open(self, &response))
    }
}

impl Ask {
    /// Sends it again while the answer is "busy": whoever asks whether there is room takes it for
    /// that moment.
    pub(crate) async fn insist(
        &self,
        client: &mut EncoderClient<Channel>,
    ) -> Result<Reply, Status> {
        loop {
            match self.send(client).await {
                Err(status) if status.code() == Code::ResourceExhausted => {
                    tokio::task::yield_now().await;
                }
                other => return other,
            }
        }
    }
}

/// A checked answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) fingerprint: String,
    pub(crate) shape: Vec<u32>,
    pub(crate) bytes: usize,
    pub(crate) items: Vec<Result<Vec<f32>, (ItemCode, String)>>,
}

impl Reply {
    pub(crate) fn open(ask: &Ask, response: &v1::EncodeResponse) -> Self {
        let meta = Meta::<ReplyMeta>::open(response.meta_version, &response.meta).unwrap();
        let meta = meta.view();
        let ids: Vec<u64> = ask.meta.items.iter().map(|item| item.id).collect();
        let bytes = meta.check(&ids, response.latents.len()).unwrap();
        let item = |item: &preheat_proto::batch::ArchivedItemReply| match item.code.into() {
            ItemCode::Ok => {
                let start = item.offset.to_native() as usize;
                Ok(floats(
                    &response.latents[start..start + bytes],
                    ask.meta.dtype,
                ))
            }
            code => Err((code, item.message.to_string())),
        };
        Self {
            fingerprint: response.fingerprint.clone(),
            shape: meta.shape.iter().map(|side| side.to_native()).collect(),
            bytes: response.latents.len(),
            items: meta.items.iter().map(item).collect(),
        }
    }

    pub(crate) fn latent(&self, index: usize) -> &[f32] {
        self.items[index]
            .as_deref()
            .expect("this item should be fine")
    }

    pub(crate) fn code(&self, index: usize) -> ItemCode {
        self.items[index]
            .as_ref()
            .expect_err("this item should fail")
            .0
    }
}

fn floats(bytes: &[u8], dtype: DType) -> Vec<f32> {
    let value = |b: &[u8]| match dtype {
        DType::F32 => f32::from_le_bytes(b.try_into().unwrap()),
        DType::F16 => half::f16::from_le_bytes(b.try_into().unwrap()).to_f32(),
        DType::BF16 => half::bf16::from_le_bytes(b.try_into().unwrap()).to_f32(),
    };
    bytes.chunks_exact(dtype.size()).map(value).collect()
}

/// An encoder that does what the test says before it encodes.
pub(crate) struct Scripted<F> {
    inner: Synthetic,
    before: F,
}

impl<F: FnMut(&Pixels) -> Result<(), Error> + Send> Encoder for Scripted<F> {
    fn spec(&self) -> &Spec {
        self.inner.spec()
    }

    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error> {
        (self.before)(pixels)?;
        self.inner.encode(pixels)
    }
}

/// A synthetic encoder, scripted.
pub(crate) fn encoder(
    before: impl FnMut(&Pixels) -> Result<(), Error> + Send + 'static,
) -> Box<dyn Encoder> {
    let inner = Synthetic::new(Default::default());
    Box::new(Scripted { inner, before })
}

/// The model `m`, scripted.
pub(crate) fn scripted(
    before: impl FnMut(&Pixels) -> Result<(), Error> + Send + 'static,
) -> Vec<Model> {
    vec![Model::new("m", vec![encoder(before)])]
}

/// A device that stops at a gate.
pub(crate) struct Gate {
    entered: flume::Receiver<usize>,
    open: flume::Sender<()>,
}

impl Gate {
    /// The gate, and a model `m` whose device waits at it before every batch.
    pub(crate) fn new() -> (Self, Vec<Model>) {
        let ([gate], model) = Self::on_devices();
        (gate, model)
    }

    /// The same on several devices, each with its own gate.
    pub(crate) fn on_devices<const N: usize>() -> ([Self; N], Vec<Model>) {
        let mut encoders: Vec<Box<dyn Encoder>> = Vec::new();
        let gates = [(); N].map(|()| {
            let (entering, entered) = flume::bounded(64);
            let (open, opened) = flume::bounded::<()>(64);
            encoders.push(encoder(move |pixels| {
                let _ = entering.try_send(pixels.batch);
                // An error means that the gate was left open for good.
                let _ = opened.recv();
                Ok(())
            }));
            Self { entered, open }
        });
        (gates, vec![Model::new("m", encoders)])
    }

    /// Waits until a batch stands at the gate; its size.
    pub(crate) async fn entered(&self) -> usize {
        soon(self.entered.recv_async()).await.unwrap()
    }

    /// Whether a batch came to the gate that was not asked for.
    pub(crate) fn is_quiet(&self) -> bool {
        self.entered.is_empty()
    }

    /// Lets one batch through.
    pub(crate) fn pass(&self) {
        self.open.try_send(()).unwrap();
    }
}

/// Repeats a question until the answer is yes.
pub(crate) async fn eventually<F: Future<Output = bool>>(mut question: impl FnMut() -> F) {
    let asking = async {
        let mut pace = tokio::time::interval(Duration::from_millis(2));
        while !question().await {
            pace.tick().await;
        }
    };
    soon(asking).await;
}
