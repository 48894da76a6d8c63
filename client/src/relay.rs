//! `preheat-balancer`: the balancer behind a listener. Calls come in over HTTP/2, wait for their turn,
//! and are passed on to a replica undecoded: messages are never opened, but for the names at the
//! start of those whose callers send no headers, and frames are never copied.
//!
//! ```text
//! listen    connections, TLS           inflow    a body on its way in: kept, so that it can be sent again
//! proxy     a call's way               attempt   one attempt on one replica; failure: what came of it
//! ask       what it asks for           answer    the way back; trailers
//! seam, fleet: where the balancer is   info, health: answered here, for the whole fleet
//! ```

pub mod admin;
mod answer;
mod ask;
mod attempt;
mod call;
mod config;
mod failure;
mod fleet;
mod headers;
mod health;
mod inflow;
mod info;
mod json;
mod listen;
mod metrics;
mod page;
mod proxy;
mod reread;
#[cfg(test)]
mod sample;
pub mod seam;
mod security;
mod signals;

use std::{future::Future, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

pub use self::{
    call::{Call, Reply},
    config::{Args, Config, Upstream},
    fleet::Fleet,
    security::Door,
};
use self::{health::Health, inflow::Budget, proxy::Shared, seam::Dispatch};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A whole balancer, from options to exit: serves, reads the list of replicas again on SIGHUP, and
/// drains on SIGTERM or SIGINT. A second such signal ends the process at once.
///
/// # Errors
/// An address that cannot be bound, an option that makes no sense.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        log();
        let config = Config::try_from(args)?;
        let stop = signals::first().context("cannot listen for signals")?;
        let hangups = signals::hangups().context("cannot listen for signals")?;
        let dispatch = Arc::new(Fleet::start(&config).await?);
        let reloading = Arc::clone(&dispatch);
        hangups.each(move || reloading.reload());
        let draining = CancellationToken::new();
        if let Some(address) = config.metrics_listen {
            let page = admin::serve(address, dispatch.looks(draining.clone())).await;
            let page = page.with_context(|| format!("cannot serve metrics on {address}"))?;
            println!("status page on http://{page}/");
        }
        let stop = async move {
            stop.await;
            draining.cancel();
        };
        let listener = bind(config.listen)?;
        println!("listening on {}", listener.local_addr()?);
        serve(listener, dispatch, &config, stop).await
    })
}

/// Relays calls on a bound socket until `shutdown` completes, then drains: health says NOT_SERVING,
/// nobody is accepted any more, calls in flight finish within `config.drain`.
///
/// # Errors
/// Where files of certificates or tokens are no good.
pub async fn serve<D: Dispatch>(
    listener: TcpListener,
    dispatch: Arc<D>,
    config: &Config,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let tls = config.door.tls()?;
    let health = Health::new().await;
    let follow = health.teller.clone().follow(dispatch.serving());
    let mut teller = health.teller.clone();
    let shared = Arc::new(Shared {
        tokens: config.door.tokens()?,
        budget: Arc::new(Budget::new(config.buffer_bytes)),
        dispatch,
        health,
    });
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let listening = listen::run(listener, tls, shared, stop);
    let drain = async {
        tokio::select! {
            () = shutdown => {}
            () = follow => {}
        }
        teller.close().await;
        stopping.cancel();
        tokio::time::sleep(config.drain).await;
        tracing::warn!(after = ?config.drain, "calls were still open when the time to drain ended");
    };
    tokio::select! {
        () = listening => {}
        () = drain => {}
    }
    Ok(())
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // One that is started again takes its port back without waiting for old connections.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().with_context(|| format!("cannot listen on {address}, choose another with --listen"))
}

/// Log lines to stderr, so that stdout holds the bound address and nothing else.
fn log() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    // A program that embeds a balancer may have its own logging already, which is fine.
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .try_init();
}
