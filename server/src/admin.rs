//! The port for machines that look after the replica: `/metrics`, `/livez`, `/readyz`. Plain HTTP,
//! apart from the gRPC port, so that it answers however full that is.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// Connections at a time; more wait to be accepted. Scrapers and probes are few.
const MAX_CONNECTIONS: usize = 64;
/// From the connection to the end of the answer; the head of the request has the first half.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// After the system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often histograms are folded together, which bounds what they hold between two scrapes.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// A reason of [`Readiness`]: set until the models are there.
pub(crate) const LOADING: &str = "the models are being loaded";
/// A reason of [`Readiness`]: set for the rest of the process' life.
pub(crate) const DRAINING: &str = "draining";

/// Why calls should go elsewhere, if they should.
#[derive(Debug)]
pub(crate) struct Readiness(Mutex<BTreeSet<&'static str>>);

impl Readiness {
    /// Not ready, for this reason.
    pub(crate) fn new(reason: &'static str) -> Self {
        Self(Mutex::new(BTreeSet::from([reason])))
    }

    /// One more reason.
    pub(crate) fn set(&self, reason: &'static str) {
        self.lock().insert(reason);
    }

    /// One reason less; without any the replica is ready.
    pub(crate) fn clear(&self, reason: &'static str) {
        self.lock().remove(reason);
    }

    fn reasons(&self) -> Vec<&'static str> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the port tells about.
struct State {
    metrics: PrometheusHandle,
    readiness: Arc<Readiness>,
}

/// Serves until the runtime ends. The address that is bound comes back.
///
/// # Errors
/// A port in use.
pub(crate) async fn serve(
    address: SocketAddr,
    metrics: PrometheusHandle,
    readiness: Arc<Readiness>,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(UPKEEP_EVERY);
        loop {
            pace.tick().await;
            upkeep.run_upkeep();
        }
    });
    tokio::spawn(accept(listener, Arc::new(State { metrics, readiness })));
    Ok(address)
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Never closed, so there is always a place sooner or later.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            // Whoever is too slow, or speaks no HTTP, is closed without a word.
            let _ = tokio::time::timeout(CONNECTION_TIME, exchange(stream, state)).await;
            drop(place);
        });
    }
}

/// One request and its answer: connections are not kept, so that none can be hoarded.
async fn exchange(stream: TcpStream, state: Arc<State>) -> hyper::Result<()> {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &state);
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIME / 2)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn answer(method: &Method, path: &str, state: &State) -> Response<Full<Bytes>> {
    let is_read = *method == Method::GET || *method == Method::HEAD;
    let (status, text) = match path {
        _ if !is_read => (StatusCode::METHOD_NOT_ALLOWED, "only GET here\n".to_owned()),
        "/metrics" => (StatusCode::OK, state.metrics.render()),
        "/livez" => (StatusCode::OK, "alive\n".to_owned()),
        "/readyz" => match &state.readiness.reasons()[..] {
            [] => (StatusCode::OK, "ready\n".to_owned()),
            reasons => {
                let text = format!("not ready: {}\n", reasons.join("; "));
                (StatusCode::SERVICE_UNAVAILABLE, text)
            }
        },
        _ => {
            let text = "there are /metrics, /livez and /readyz\n".to_owned();
            (StatusCode::NOT_FOUND, text)
        }
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    // The version belongs to the exposition format, and does not disturb the others.
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn readiness_names_its_reasons() {
        let state = State {
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            readiness: Arc::new(Readiness::new(LOADING)),
        };
        let status = |method, path| answer(&method, path, &state).status();
        assert_eq!(status(Method::GET, "/readyz"), 503);
        assert_eq!(status(Method::GET, "/livez"), 200);
        state.readiness.clear(LOADING);
        assert_eq!(status(Method::HEAD, "/readyz"), 200);
        state.readiness.set(DRAINING);
        assert_eq!(state.readiness.reasons(), [DRAINING]);
        assert_eq!(status(Method::GET, "/readyz"), 503);
        assert_eq!(status(Method::POST, "/metrics"), 405);
        assert_eq!(status(Method::GET, "/"), 404);
    }
}
