#![doc = include_str!("../README.md")]

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use preheat_proto::{
    FILE_DESCRIPTOR_SET, inference::grpc_inference_service_server::GrpcInferenceServiceServer,
    limits,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::oneshot,
};

mod admin;
mod around;
mod body;
mod config;
mod door;
mod error;
mod health;
mod inference;
mod listen;
mod logging;
mod metrics;
mod models;
mod orca;
#[cfg(feature = "otlp")]
mod otlp;
mod rarely;
mod reload;
mod security;
mod service;
mod signals;
mod stack;
mod trace;
mod watch;
pub mod wire;

mod engine;

pub use config::{Args, Config};
pub use engine::{Measured, Model, Opened, Settings};
pub use models::{Models, Open};
pub use reload::{Change, Reloader};
pub use security::Security;

use admin::{DRAINING, LOADING, Readiness};
use engine::Engine;
use health::Health;
use inference::Inference;
use metrics::Metrics;
use service::Handlers;
use stack::{Shared, stack};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Places in the queue are given back wherever an item dies, so their gauge is read, not told.
const GAUGES_EVERY: Duration = Duration::from_secs(1);
/// After the last call is answered: how long its bytes may take to leave.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// How often to look for models that no device serves any more and weights that nobody uses.
const UPKEEP: Duration = Duration::from_millis(200);

/// A whole replica, from options to exit: loads the models, serves, and drains on SIGTERM or
/// SIGINT. A second signal ends the process at once.
///
/// # Errors
/// A model that cannot be opened, an address that cannot be bound, an option that makes no sense.
pub fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        let _logging = logging::start(args.otlp_endpoint.as_deref())?;
        let config = Config::try_from(&args)?;
        config.security.check()?;
        let hangups = signals::Hangups::listen().context("cannot listen for signals")?;
        // Bound before the models are loaded, so that a port in use is known at once; listening
        // only after, so that nobody connects to a replica that cannot answer yet.
        let socket = bind(config.listen)?;
        let readiness = Arc::new(Readiness::new(LOADING));
        if let Some(address) = config.metrics_listen {
            let address = admin::serve(address, metrics::install()?, Arc::clone(&readiness))
                .await
                .with_context(|| format!("cannot serve metrics on {address}"))?;
            tracing::info!("/metrics, /livez and /readyz on {address}");
        }
        let mut models = config.open_models()?;
        introduce(&models);
        if config.engine.batch_pixels.is_none() {
            models.measure(config.engine.max_batch);
        }
        hangups.reload(models.reloader());
        let stop = signals::first().context("cannot listen for signals")?;
        let listener = socket
            .listen(BACKLOG)
            .with_context(|| in_use(config.listen))?;
        println!("listening on {}", listener.local_addr()?);
        serve_until(listener, models, &config, stop, &readiness).await
    })
}

/// Serves on a bound socket until `shutdown` completes, then drains: health says NOT_SERVING, new
/// calls are refused, calls in flight finish within `config.drain_timeout`.
///
/// # Errors
/// Where threads cannot be started or the transport fails.
pub async fn serve(
    listener: TcpListener,
    models: Models,
    config: &Config,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let readiness = Readiness::new(LOADING);
    serve_until(listener, models, config, shutdown, &readiness).await
}

async fn serve_until(
    listener: TcpListener,
    models: Models,
    config: &Config,
    shutdown: impl Future<Output = ()>,
    readiness: &Readiness,
) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let names: Vec<_> = models.iter().map(|(name, _)| name.to_owned()).collect();
    let Models {
        devices,
        models,
        again,
        reloads: (_, asks),
    } = models;
    let engine = Engine::start(&devices, models, &config.engine, Arc::clone(&metrics))
        .context("cannot start the threads of the engine")?;
    let tokens = config.security.tokens()?;
    let shared = Arc::new(Shared::new(engine, metrics, tokens));
    let names = names.into_iter();
    let (mut health, health_service) = Health::new(names).await;
    let (close, closed) = oneshot::channel();
    let incoming = listen::incoming(listener, config.security.tls()?);
    let server = wire::transport()
        .layer(door::door(&shared))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(native(&shared))
        .add_service(open_inference(&shared))
        .serve_with_incoming_shutdown(incoming, async {
            let _ = closed.await;
        });
    let drain = async {
        readiness.clear(LOADING);
        tokio::select! {
            () = shutdown => {}
            never = upkeep(&shared.engine, &mut health, config.retire_after) => match never {},
            never = reload::answer(asks, again, &shared.engine) => match never {},
        }
        readiness.set(DRAINING);
        health.not_serving().await;
        shared.refuse_new_calls();
        // The listener stays open meanwhile: probes and balancers shall hear NOT_SERVING and
        // UNAVAILABLE, not silence.
        let done = tokio::time::timeout(config.drain_timeout, shared.all_calls_done()).await;
        if done.is_err() {
            let after = config.drain_timeout;
            tracing::warn!(?after, "calls were still open when the drain timeout ended");
        }
        health.close().await;
        let _ = close.send(());
        if done.is_ok() {
            tokio::time::sleep(FLUSH_TIME).await;
            tracing::warn!(after = ?FLUSH_TIME, "peers still held connections open");
        }
    };
    let gauges = async {
        let mut pace = tokio::time::interval(GAUGES_EVERY);
        loop {
            pace.tick().await;
            shared.engine.queue().show();
        }
    };
    tokio::select! {
        ended = server => ended.context("the transport failed"),
        () = drain => Ok(()),
        () = gauges => Ok(()),
    }
}

async fn upkeep(engine: &Engine, health: &mut Health, retire_after: Duration) -> Infallible {
    let mut pace = tokio::time::interval(UPKEEP);
    loop {
        pace.tick().await;
        engine.catalogue().retire(Instant::now(), retire_after);
        let models = engine.catalogue().list();
        health
            .follow(models.iter().map(|all| all[0].is_served()))
            .await;
    }
}

fn native(shared: &Arc<Shared>) -> impl stack::Routed {
    let handlers = Handlers {
        shared: Arc::clone(shared),
    };
    stack(wire::encoder(handlers), shared)
}

fn open_inference(shared: &Arc<Shared>) -> impl stack::Routed {
    let native = Handlers {
        shared: Arc::clone(shared),
    };
    let service = GrpcInferenceServiceServer::new(Inference { native })
        .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(limits::MAX_MESSAGE_BYTES);
    stack(inference::served_only(service, shared), shared)
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // A replica that is started again takes its port back without waiting for old connections.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok::<_, std::io::Error>(socket)
    };
    bind().with_context(|| in_use(address))
}

fn in_use(address: SocketAddr) -> String {
    format!("cannot listen on {address}, choose another with --listen")
}

fn introduce(models: &Models) {
    for (name, opened) in models.iter() {
        for opened in opened {
            let spec = opened.encoder.spec();
            let (class, fingerprint) = (&spec.class, spec.fingerprint);
            let (device, dtype, why) = (spec.device, spec.dtype, spec.dtype_reason);
            tracing::info!(%class, %fingerprint, %device, %dtype, why, "model `{name}`");
        }
        if opened[0].encoder.spec().untrained {
            tracing::warn!(
                "model `{name}` is UNTRAINED: its latents are good for trying things out and \
                 useless for training"
            );
        }
    }
}
