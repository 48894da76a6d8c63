//! A replica that computes nothing but a digest of what it was sent, and misbehaves on demand.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use preheat_client::{Batch, DataLoader, Dataset, SampleInfo};
use preheat_proto::{
    DType, ItemCode, ItemReply, META_VERSION, Meta, Posterior, ReplyMeta, RequestMeta,
    batch::{ArchivedItemMeta, archive},
    v1::{
        EncodeRequest, EncodeResponse, InfoRequest, InfoResponse, Limits, Model, Normalization,
        encoder_server::{Encoder, EncoderServer},
    },
};
use tokio::{net::TcpListener, runtime::Runtime, sync::Semaphore};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, async_trait, transport::Server};

use crate::port::Port;

/// What to do with a call.
pub(crate) enum Act {
    Answer,
    Fail(Status),
    /// Answer when the semaphore lets it through.
    Wait(Arc<Semaphore>),
    /// The same, and say this of these items.
    Late(Arc<Semaphore>, Vec<(u64, ItemCode)>),
    /// Answer, but say this of these items.
    Items(Vec<(u64, ItemCode)>),
    /// Answer with something changed.
    Tamper(fn(&mut EncodeResponse)),
}

/// Decides by number of the call, from 0, and the ids in it.
pub(crate) type Script = Arc<dyn Fn(usize, &[u64]) -> Act + Send + Sync>;

pub(crate) struct Stub {
    pub(crate) addr: SocketAddr,
    pub(crate) counts: Arc<Counts>,
    runtime: Option<Runtime>,
    port: Option<Port>,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) calls: AtomicUsize,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) most_in_flight: AtomicUsize,
    /// The header of the last call that had one.
    pub(crate) authorization: Mutex<String>,
}

impl Stub {
    pub(crate) fn start(script: impl Fn(usize, &[u64]) -> Act + Send + Sync + 'static) -> Self {
        Self::start_at(Port::hold(), script)
    }

    pub(crate) fn answering() -> Self {
        Self::start(|_, _| Act::Answer)
    }

    pub(crate) fn start_at(
        port: Port,
        script: impl Fn(usize, &[u64]) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(port, Server::builder(), script)
    }

    /// With a transport of the test's own.
    pub(crate) fn start_with(
        port: Port,
        mut server: Server,
        script: impl Fn(usize, &[u64]) -> Act + Send + Sync + 'static,
    ) -> Self {
        let counts = Arc::new(Counts::default());
        let replica = Replica {
            script: Arc::new(script),
            counts: counts.clone(),
        };
        let runtime = Runtime::new().unwrap();
        let mut listener = None;
        // A process that another test is just starting has this one's files open until it runs: the
        // listener that was closed at this port among them.
        eventually("the port is free again", || {
            listener = runtime.block_on(TcpListener::bind(port.addr)).ok();
            listener.is_some()
        });
        let listener = listener.unwrap();
        runtime.spawn(
            server
                .add_service(EncoderServer::new(replica))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self {
            addr: port.addr,
            counts,
            runtime: Some(runtime),
            port: Some(port),
        }
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn calls(&self) -> usize {
        self.counts.calls.load(SeqCst)
    }

    /// Ends at once, as by `kill -9`: connections break, and nobody listens at the port, to which it may
    /// return.
    pub(crate) fn kill(mut self) -> Port {
        // Not in the background: nobody may listen any more when this returns.
        let runtime = self.runtime.take().unwrap();
        runtime.shutdown_timeout(Duration::from_secs(10));
        self.port.take().unwrap()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Replica {
    script: Script,
    counts: Arc<Counts>,
}

struct InFlight(Arc<Counts>);

impl InFlight {
    fn new(counts: &Arc<Counts>) -> Self {
        let now = counts.in_flight.fetch_add(1, SeqCst) + 1;
        counts.most_in_flight.fetch_max(now, SeqCst);
        Self(counts.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
    }
}

#[async_trait]
impl Encoder for Replica {
    async fn encode(
        &self,
        request: Request<EncodeRequest>,
    ) -> Result<Response<EncodeResponse>, Status> {
        let _guard = InFlight::new(&self.counts);
        let headers = request.metadata();
        let header = |name| headers.get(name).unwrap().to_str().unwrap().parse::<u64>();
        if let Some(value) = headers.get("authorization") {
            let mut last = self.counts.authorization.lock().unwrap();
            value.to_str().unwrap().clone_into(&mut last);
        }
        let cost = header(preheat_proto::headers::COST_PIXELS).unwrap();
        header(preheat_proto::headers::NEEDED_IN_MS).unwrap();
        let request = request.into_inner();
        let meta = Meta::<RequestMeta>::open(request.meta_version, &request.meta).unwrap();
        meta.view().check(request.payloads.len()).unwrap();
        assert_eq!(cost, meta.view().cost_pixels());
        let ids: Vec<_> = meta
            .view()
            .items
            .iter()
            .map(|item| item.id.to_native())
            .collect();
        let call = self.counts.calls.fetch_add(1, SeqCst);
        let mut reply = answer(&request, &meta, &[]);
        match (self.script)(call, &ids) {
            Act::Answer => {}
            Act::Fail(status) => return Err(status),
            Act::Wait(gate) => drop(gate.acquire().await.unwrap()),
            Act::Late(gate, bad) => {
                drop(gate.acquire().await.unwrap());
                reply = answer(&request, &meta, &bad);
            }
            Act::Items(bad) => reply = answer(&request, &meta, &bad),
            Act::Tamper(change) => change(&mut reply),
        }
        Ok(Response::new(reply))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let model = |name: &str, fingerprint: &str| Model {
            name: name.into(),
            fingerprint: fingerprint.into(),
            latent_channels: 4,
            spatial_compression: 8,
            temporal_compression: 1,
            size_multiple: 8,
            has_posterior: name == "stub",
            preferred_batch_pixels: 3 * 32 * 32,
            older_fingerprints: vec![OLDER.into()],
            normalization: Some(Normalization {
                mean: vec![0.5],
                std: vec![2.0],
                scale: 1.0,
                patch: 1,
            }),
            ..Model::default()
        };
        Ok(Response::new(InfoResponse {
            version: "0".into(),
            meta_version: META_VERSION,
            models: vec![model("stub", FINGERPRINT), model("other", "ff")],
            limits: Some(Limits::default()),
        }))
    }
}

pub(crate) const FINGERPRINT: &str = "0123456789abcdef";

/// Of weights that were replaced, and that the stub still has.
pub(crate) const OLDER: &str = "fedcba9876543210";

fn answer(
    request: &EncodeRequest,
    meta: &Meta<RequestMeta>,
    bad: &[(u64, ItemCode)],
) -> EncodeResponse {
    let view = meta.view();
    let posterior = view.posterior.into();
    let moments = posterior == Posterior::Moments;
    let channels = if moments { 8 } else { 4 };
    let [height, width] = [view.height, view.width].map(|side| side.to_native() / 8);
    let shape = vec![channels, height, width];
    let bytes = preheat_proto::dtype::tensor_bytes(&shape, DType::F32).unwrap();
    let stride = preheat_proto::dtype::tensor_stride(bytes).unwrap();
    let mut latents = Vec::new();
    let mut items = Vec::new();
    for (item, payload) in view.items.iter().zip(&request.payloads) {
        let id = item.id.to_native();
        let code = bad.iter().find(|(bad, _)| *bad == id);
        let code = code.map_or(ItemCode::Ok, |(_, code)| *code);
        let offset = latents.len() as u64;
        if code == ItemCode::Ok {
            let digest = digest(payload, &fields(item, posterior));
            if moments {
                let mean = mean(digest).take(bytes / 8);
                latents.extend(mean.flat_map(f32::to_le_bytes));
                // Log-variances of 0.
                latents.resize(offset as usize + bytes, 0);
            } else {
                latents.extend(digest.iter().cycle().take(bytes));
            }
            latents.resize(offset as usize + stride, 0);
        }
        items.push(ItemReply {
            id,
            offset: if code == ItemCode::Ok { offset } else { 0 },
            code,
            message: format!("scripted {code:?}"),
        });
    }
    let reply = ReplyMeta {
        dtype: DType::F32,
        posterior,
        scale: view.scale.into(),
        shape,
        items,
    };
    EncodeResponse {
        meta_version: META_VERSION,
        fingerprint: request.fingerprint.clone(),
        meta: archive(&reply).unwrap(),
        latents: latents.into(),
    }
}

/// All that a latent depends on: on the seed only where it is drawn.
fn fields(item: &ArchivedItemMeta, posterior: Posterior) -> [u64; 9] {
    let drawn = posterior == Posterior::Sample;
    [
        item.id.to_native(),
        if drawn { item.seed.to_native() } else { 0 },
        item.source_width.to_native().into(),
        item.source_height.to_native().into(),
        item.resize_width.to_native().into(),
        item.resize_height.to_native().into(),
        item.crop_x.to_native().into(),
        item.crop_y.to_native().into(),
        item.flip.into(),
    ]
}

fn digest(payload: &[u8], fields: &[u64; 9]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(payload);
    for field in fields {
        hasher.update(&field.to_le_bytes());
    }
    hasher.finalize().as_bytes()[..8].try_into().unwrap()
}

/// The means in moments: between -1 and 1.
pub(crate) fn mean(digest: [u8; 8]) -> impl Iterator<Item = f32> {
    let value = |byte| f32::from(byte) / 128.0 - 1.0;
    digest.into_iter().cycle().map(value)
}

/// Whether every latent is that of the file, the transform and the seed it is delivered with, and
/// zeros where it is masked.
pub(crate) fn verify(batch: &Batch, loader: &DataLoader) {
    let [count, channels, height, width] = batch.latents.shape[..] else {
        panic!("{:?}", batch.latents.shape)
    };
    assert_eq!(count as usize, batch.samples.len());
    assert_eq!(
        [channels, height, width],
        [4, batch.bucket.height / 8, batch.bucket.width / 8]
    );
    let bytes = (channels * height * width * 4) as usize;
    let drawn_latent = loader.state().run.posterior == "sample";
    assert_eq!(batch.latents.data.len(), bytes * count as usize);
    for (sample, latent) in batch.samples.iter().zip(batch.latents.data.chunks(bytes)) {
        assert_eq!(sample.key, loader.dataset().key(sample.id));
        if !sample.valid {
            assert!(latent.iter().all(|&byte| byte == 0), "{}", sample.key);
            continue;
        }
        let seed = if drawn_latent { sample.seed } else { 0 };
        let digest = digest_of(sample, seed, loader);
        assert!(
            latent.iter().eq(digest.iter().cycle().take(bytes)),
            "{}",
            sample.key
        );
    }
}

/// What the stub makes of a sample.
pub(crate) fn digest_of(sample: &SampleInfo, seed: u64, loader: &DataLoader) -> [u8; 8] {
    let drawn = sample.transform;
    let fields = [
        sample.id,
        seed,
        drawn.source.width.into(),
        drawn.source.height.into(),
        drawn.resize.width.into(),
        drawn.resize.height.into(),
        drawn.crop_x.into(),
        drawn.crop_y.into(),
        drawn.flip.into(),
    ];
    assert_eq!(sample.key, loader.dataset().key(sample.id));
    digest(&image(loader.dataset(), sample.id), &fields)
}

/// The bytes of a sample's image.
fn image(dataset: &Dataset, id: u64) -> Bytes {
    if let Some(path) = dataset.path(id) {
        return std::fs::read(path).unwrap().into();
    }
    // On a thread of its own: tests may be inside of a runtime.
    let read = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(dataset.read(id)).unwrap().image
    };
    std::thread::scope(|scope| scope.spawn(read).join().unwrap())
}

/// All batches that are left, checked; epochs one after the other.
pub(crate) fn drain(loader: &mut DataLoader, epochs: u64) -> Vec<Batch> {
    let mut batches = Vec::new();
    while loader.state().epoch < epochs {
        if let Some(batch) = loader.next_batch().unwrap() {
            verify(&batch, loader);
            batches.push(batch);
        }
    }
    batches
}

/// Waits for something that must come; the bound is only there so that a bug is no hang.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::yield_now();
    }
}
