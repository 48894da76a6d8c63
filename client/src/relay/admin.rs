//! The port for people and machines that look after the balancer: the status page at `/`, the same
//! as `/view.json`, `/metrics`, `/livez` and `/readyz`. Plain HTTP, apart from the port for calls.

#[cfg(test)]
mod tests;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore},
    time::{Instant, sleep, timeout},
};

use super::{json, metrics, page};
use crate::balance::{Standing, View, discover::Listing};

/// Connections at a time; more wait to be accepted. Those who look are few.
const MAX_CONNECTIONS: usize = 64;
/// From the connection to the end of the answer; the head of the request has the first half.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// After the system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long one look at the balancer serves all who ask: many open pages must not take its time.
const FRESH: Duration = Duration::from_millis(200);

/// What the port tells about.
pub trait Source: Send + Sync + 'static {
    /// Everything there is to see of the balancer now.
    fn view(&self) -> View;

    /// Where the replicas are, and what does not work about that.
    fn listing(&self) -> Arc<Listing>;

    /// Whether no new calls are taken any more.
    fn is_draining(&self) -> bool;
}

/// One look.
#[derive(Clone)]
struct Seen {
    at: Instant,
    view: Arc<View>,
    listing: Arc<Listing>,
}

struct State<S> {
    source: S,
    seen: Mutex<Option<Seen>>,
}

impl<S: Source> State<S> {
    async fn look(&self) -> Seen {
        let mut seen = self.seen.lock().await;
        match &*seen {
            Some(seen) if seen.at.elapsed() < FRESH => seen.clone(),
            _ => {
                let now = Seen {
                    at: Instant::now(),
                    view: Arc::new(self.source.view()),
                    listing: self.source.listing(),
                };
                seen.insert(now).clone()
            }
        }
    }
}

/// Serves until the runtime ends. The address that is bound comes back.
///
/// # Errors
/// A port in use.
pub async fn serve(address: SocketAddr, source: impl Source) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let seen = Mutex::new(None);
    tokio::spawn(accept(listener, Arc::new(State { source, seen })));
    Ok(address)
}

async fn accept<S: Source>(listener: TcpListener, state: Arc<State<S>>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Never closed, so there is always a place sooner or later.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            // Whoever is too slow, or speaks no HTTP, is closed without a word.
            let _ = timeout(CONNECTION_TIME, exchange(stream, state)).await;
            drop(place);
        });
    }
}

/// One request and its answer: connections are not kept, so that none can be hoarded.
async fn exchange<S: Source>(stream: TcpStream, state: Arc<State<S>>) -> hyper::Result<()> {
    let state = &*state;
    let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
        let answer = answer(request.method(), request.uri().path(), state).await;
        Ok::<_, Infallible>(answer)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIME / 2)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer<S: Source>(method: &Method, path: &str, state: &State<S>) -> Response<Full<Bytes>> {
    if *method != Method::GET && *method != Method::HEAD {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET here\n".to_owned());
        let allowed = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(header::ALLOW, allowed);
        return refusal;
    }
    match path {
        "/livez" => text(StatusCode::OK, "alive\n".to_owned()),
        "/" | "/metrics" | "/view.json" | "/readyz" => {
            let Seen { view, listing, .. } = state.look().await;
            match path {
                "/" => typed(
                    "text/html; charset=utf-8",
                    page::render(&view, &listing.troubles),
                ),
                "/metrics" => {
                    let kind = "text/plain; version=0.0.4; charset=utf-8";
                    typed(kind, metrics::render(&view, &listing.troubles))
                }
                "/view.json" => typed("application/json", json::render(&view, &listing.troubles)),
                _ => ready(&view, state.source.is_draining()),
            }
        }
        _ => {
            let paths = "there are /, /view.json, /metrics, /livez and /readyz\n";
            text(StatusCode::NOT_FOUND, paths.to_owned())
        }
    }
}

/// A balancer without a replica that is up takes calls, and they wait: others may have one.
fn ready(view: &View, draining: bool) -> Response<Full<Bytes>> {
    let up = view
        .replicas
        .iter()
        .any(|replica| replica.standing == Standing::Up);
    let why = match (draining, up) {
        (true, _) => "draining",
        (false, false) => "no replica is up",
        (false, true) => return text(StatusCode::OK, "ready\n".to_owned()),
    };
    text(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready: {why}\n"),
    )
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = typed("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}

fn typed(kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    // Nothing may be loaded or run: on the page stand words of strangers.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                  frame-ancestors 'none'";
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}
