//! The port: connections that have shown that they speak HTTP/2, bounded in number and in the time
//! that each may take to greet.

mod greet;

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;

use self::greet::{Greeted, Rude, greet};
use super::{
    proxy::{Shared, serve},
    reread::Current,
    seam::Dispatch,
};

/// Connections at a time, those that are still greeting included: past it new ones are closed at
/// once. A fleet of trainers needs a few each; an idle one costs some kilobytes.
const MAX_CONNECTIONS: usize = 4096;
/// Calls that one connection may have open: some loaders' worth.
const MAX_STREAMS: u32 = 256;
/// Bytes that a peer may send on one stream before they are read, which they are at once: enough for
/// a fast network.
const STREAM_WINDOW: u32 = 16 << 20;
/// The same for a whole connection.
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// A frame is passed on when it is whole, and is passed on as one, which spares replicas a copy of
/// payloads that come so: room for most photos.
const MAX_FRAME: u32 = 1 << 18;
/// Bytes of an answer that may wait in a stream for its connection.
const SEND_BUFFER: usize = 2 << 20;
/// Headers of one call: names, tokens and traces are far below.
const MAX_HEADERS: u32 = 64 << 10;
/// A peer that is silent for so long is asked for a sign of life, and then has so long to give it.
const KEEPALIVE: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(20)];
/// After the system refused to accept, for example because no file handles are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `stop`, then lets calls in flight finish. Dropping the future ends everything.
pub(super) async fn run<D: Dispatch>(
    listener: TcpListener,
    tls: Option<Current<ServerConfig>>,
    shared: Arc<Shared<D>>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    // Ends the connections' tasks with this future.
    let ended = CancellationToken::new();
    let _end = ended.clone().drop_guard();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept connections: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!("{MAX_CONNECTIONS} connections are open: that of {peer} is closed");
            continue;
        };
        let tls = tls.as_ref().map(Current::get);
        let (shared, stop, ended) = (Arc::clone(&shared), stop.clone(), ended.clone());
        connections.spawn(async move {
            let _place = place;
            let talk = async {
                match greet(stream, tls).await {
                    Ok(io) => talk(io, peer, shared, stop).await,
                    Err(Rude::Gone) => {}
                    Err(rude) => tracing::debug!("{peer} {rude}"),
                }
            };
            tokio::select! {
                () = talk => {}
                () = ended.cancelled() => {}
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn talk<D: Dispatch>(
    io: Greeted,
    from: SocketAddr,
    shared: Arc<Shared<D>>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = serve(Arc::clone(&shared), from, request.map(Body::new));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(KEEPALIVE[0])
        .keep_alive_timeout(KEEPALIVE[1])
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("{from}: {error}");
    }
}
