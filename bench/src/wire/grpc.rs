//! The same calls through gRPC: with the transport and the path of replica and loader, and with
//! tonic as it comes.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use preheat_client::wire::Connections;
use preheat_proto::{
    headers, limits, rope,
    v1::{
        EncodeRequest, EncodeResponse, InfoRequest, InfoResponse, Model,
        encoder_client::EncoderClient,
        encoder_server::{Encoder, EncoderServer},
    },
};
use preheat_server::wire;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    task::JoinSet,
};
use tonic::{
    Request, Response, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use super::{LARGEST, Load, Way};
use crate::{load::usage::Process, replica::Replica};

/// What is asked for.
const MODEL: &str = "vae";

/// Two runtimes, as if in two processes.
pub(super) struct Grpc {
    client: Client,
    /// What every slot sends from: no two the same memory.
    blocks: Vec<Bytes>,
    /// Of the server.
    address: String,
    runtime: Runtime,
    /// Between the two, if there is one.
    balancer: Option<Replica>,
    /// Dropped last, and with it the server.
    _server: Runtime,
}

/// How long the balancer may take to find the server.
const FIND_TIME: Duration = Duration::from_secs(10);
/// How often it is asked whether it has.
const FIND_PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone)]
enum Client {
    Ours(Connections),
    Stock(EncoderClient<Channel>),
}

impl Grpc {
    pub(super) fn ours(slots: usize, connections: u32) -> anyhow::Result<Self> {
        let answers = Answers::new(slots, true);
        let serve = move |listener| async move {
            let server = wire::transport().add_service(wire::encoder(answers));
            server.serve_with_incoming(wire::incoming(listener)).await
        };
        Self::start(slots, serve, |endpoint| {
            Client::Ours(Connections::lazy(endpoint, connections))
        })
    }

    /// The same through a balancer in a process of its own.
    pub(super) fn hop(slots: usize, connections: u32) -> anyhow::Result<Self> {
        let mut direct = Self::ours(slots, connections)?;
        let replica = direct.address.clone();
        let count = connections.to_string();
        let balancer = Replica::balancer(&[
            "--replicas",
            &replica,
            "--listen",
            "127.0.0.1:0",
            "--connections",
            &count,
        ])?;
        let endpoint = Endpoint::from_shared(balancer.endpoint())?;
        direct.client = direct.runtime.block_on(async {
            let connections = Connections::lazy(endpoint, connections);
            let found = async {
                while connections
                    .info(Request::new(InfoRequest {}))
                    .await
                    .is_err()
                {
                    tokio::time::sleep(FIND_PAUSE).await;
                }
            };
            let found = tokio::time::timeout(FIND_TIME, found).await;
            found.context("the balancer does not find the server")?;
            anyhow::Ok(Client::Ours(connections))
        })?;
        direct.balancer = Some(balancer);
        Ok(direct)
    }

    pub(super) fn stock(slots: usize) -> anyhow::Result<Self> {
        let answers = Answers::new(slots, false);
        let serve = move |listener| async move {
            let service =
                EncoderServer::new(answers).max_decoding_message_size(limits::MAX_MESSAGE_BYTES);
            let server = Server::builder().add_service(service);
            server.serve_with_incoming(plain(listener)).await
        };
        Self::start(slots, serve, |endpoint| {
            let client = EncoderClient::new(endpoint.connect_lazy())
                .max_decoding_message_size(limits::MAX_MESSAGE_BYTES);
            Client::Stock(client)
        })
    }

    fn start<F>(
        slots: usize,
        serve: impl FnOnce(TcpListener) -> F,
        client: impl FnOnce(Endpoint) -> Client,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
    {
        let (server, runtime) = (runtime()?, runtime()?);
        let listener = server.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = format!("http://{}", listener.local_addr()?);
        let endpoint = Endpoint::from_shared(address.clone())?;
        server.spawn(serve(listener));
        let client = {
            let _inside = runtime.enter();
            client(endpoint)
        };
        Ok(Self {
            client,
            blocks: blocks(slots),
            address,
            runtime,
            balancer: None,
            _server: server,
        })
    }
}

/// As `Server::serve` makes it, which only cannot take a bound socket.
fn plain(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

fn runtime() -> anyhow::Result<Runtime> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start an async runtime")
}

fn blocks(slots: usize) -> Vec<Bytes> {
    (0..slots).map(|_| vec![1; LARGEST].into()).collect()
}

impl Way for Grpc {
    fn run(&mut self, load: Load, time: Duration) -> anyhow::Result<u64> {
        let end = Instant::now() + time;
        self.runtime.block_on(async {
            let mut slots = JoinSet::new();
            for block in &self.blocks {
                slots.spawn(slot(self.client.clone(), request(block, load), load, end));
            }
            let mut calls = 0;
            while let Some(slot) = slots.join_next().await {
                calls += slot??;
            }
            Ok(calls)
        })
    }

    fn latency(&mut self, load: Load, calls: usize) -> anyhow::Result<Vec<Duration>> {
        let request = request(&self.blocks[0], load);
        let mut client = self.client.clone();
        self.runtime.block_on(async {
            let mut took = Vec::with_capacity(calls);
            for _ in 0..calls {
                let start = Instant::now();
                client.call(&request).await?;
                took.push(start.elapsed());
            }
            Ok(took)
        })
    }

    fn elsewhere(&self) -> Option<Duration> {
        let process = Process::look(self.balancer.as_ref()?.id());
        process.usage().map(|usage| usage.cpu)
    }
}

impl Client {
    /// One call; the bytes of its answer.
    async fn call(&mut self, request: &EncodeRequest) -> anyhow::Result<usize> {
        let mut request = Request::new(request.clone());
        let answer = match self {
            Self::Ours(connections) => {
                // As a loader says it, for a balancer.
                let metadata = request.metadata_mut();
                metadata.insert(headers::MODEL, MetadataValue::from_static(MODEL));
                metadata.insert(headers::COST_PIXELS, MetadataValue::from(1));
                metadata.insert(headers::NEEDED_IN_MS, MetadataValue::from(1000));
                connections.encode(request).await
            }
            Self::Stock(stub) => stub.encode(request).await,
        };
        let answer = answer.context("a call failed")?;
        Ok(answer.into_inner().latents.len())
    }
}

async fn slot(
    mut client: Client,
    request: EncodeRequest,
    load: Load,
    end: Instant,
) -> anyhow::Result<u64> {
    let mut calls = 0;
    while Instant::now() < end {
        let answered = client.call(&request).await?;
        let asked = load.down;
        anyhow::ensure!(
            answered == asked,
            "{answered} bytes where {asked} were asked"
        );
        calls += 1;
    }
    Ok(calls)
}

/// A request with `load.up` bytes of payload, which says in its version how many it wants back.
fn request(block: &Bytes, load: Load) -> EncodeRequest {
    let starts = (0..load.up).step_by(load.payload);
    EncodeRequest {
        meta_version: load.down as u32,
        model: MODEL.to_owned(),
        payloads: starts
            .map(|start| block.slice(start..(start + load.payload).min(load.up)))
            .collect(),
        ..EncodeRequest::default()
    }
}

/// A handler that does nothing but answer.
struct Answers {
    blocks: Vec<Bytes>,
    next: AtomicUsize,
    roped: bool,
}

impl Answers {
    fn new(slots: usize, roped: bool) -> Self {
        Self {
            blocks: blocks(slots),
            next: AtomicUsize::new(0),
            roped,
        }
    }
}

#[tonic::async_trait]
impl Encoder for Answers {
    async fn encode(
        &self,
        request: Request<EncodeRequest>,
    ) -> Result<Response<EncodeResponse>, Status> {
        let (_, mut extensions, request) = request.into_parts();
        let request = rope::arriving(&mut extensions, request).whole().await?;
        let wanted = request.meta_version as usize;
        let slot = self.next.fetch_add(1, Ordering::Relaxed) % self.blocks.len();
        let answer = Response::new(EncodeResponse {
            latents: self.blocks[slot].slice(..wanted.min(LARGEST)),
            ..EncodeResponse::default()
        });
        if self.roped {
            rope::response(answer)
        } else {
            Ok(answer)
        }
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let model = Model {
            name: MODEL.to_owned(),
            ..Model::default()
        };
        Ok(Response::new(InfoResponse {
            models: vec![model],
            ..InfoResponse::default()
        }))
    }
}
