//! Servers of objects, on ports that the system picks: S3 as it is spoken, and plain HTTP. In
//! front of either, faults by a schedule.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;
use preheat_client::dataset::{Store, StoreOptions};
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, task::AbortHandle};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<Bytes, Failure>;
type Answer = Response<Body>;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Internal error.
    Status500,
    /// 503 SlowDown, as S3 says when it is asked too much.
    SlowDown,
    /// The connection ends before an answer.
    Reset,
    /// The connection ends in the middle of the body.
    Truncated,
    /// Half of the body, and then nothing more.
    Stalled,
    /// No permission, whoever asks.
    Denied,
}

/// The fault of the n-th request.
pub(crate) type Schedule = fn(u64) -> Fault;

pub(crate) struct Server {
    addr: SocketAddr,
    /// Requests that came, and those that a fault met.
    pub(crate) requests: Arc<AtomicU64>,
    pub(crate) faults: Arc<AtomicU64>,
    accepting: AbortHandle,
}

impl Server {
    /// Speaks S3; the directories of `root` are its buckets.
    pub(crate) fn s3(root: &Path, schedule: Schedule) -> Self {
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root).unwrap());
        builder.set_auth(SimpleAuth::from_single("key", "secret"));
        Self::start(Backend::S3(builder.build()), schedule)
    }

    /// Sends files and parts of them, and lists nothing, as most web servers.
    pub(crate) fn http(root: &Path, schedule: Schedule) -> Self {
        Self::start(Backend::Files(root.to_owned()), schedule)
    }

    fn start(backend: Backend, schedule: Schedule) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let addr = listener.local_addr().unwrap();
        let (requests, faults) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let counts = (requests.clone(), faults.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (backend, counts) = (backend.clone(), counts.clone());
                let service = service_fn(move |request| {
                    let (backend, counts) = (backend.clone(), counts.clone());
                    async move {
                        let fault = schedule(counts.0.fetch_add(1, Ordering::Relaxed));
                        let met = u64::from(fault != Fault::None);
                        counts.1.fetch_add(met, Ordering::Relaxed);
                        meet(fault, backend, request).await
                    }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                tokio::spawn(connection);
            }
        });
        Self {
            addr,
            requests,
            faults,
            accepting: accepting.abort_handle(),
        }
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// How to reach it by S3, with little patience.
    pub(crate) fn options(&self, secret: &str) -> StoreOptions {
        let settings = [
            ("aws_access_key_id", "key"),
            ("aws_secret_access_key", secret),
            ("aws_region", "us-east-1"),
        ];
        StoreOptions {
            endpoint: Some(self.uri()),
            settings: settings
                .map(|(key, value)| (key.into(), value.into()))
                .into(),
            request_timeout: Duration::from_millis(1000),
            retry_for: Duration::from_secs(20),
            ..StoreOptions::default()
        }
    }

    pub(crate) fn open(&self, uri: &str) -> Store {
        Store::open(uri, &self.options("secret")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Clone)]
enum Backend {
    S3(S3Service),
    Files(PathBuf),
}

impl Backend {
    fn answer(&self, request: Request<Incoming>) -> BoxFuture<'static, Result<Answer, Failure>> {
        match self {
            Self::S3(service) => {
                let answer = Service::call(service, request);
                Box::pin(async move {
                    let answer = answer.await.map_err(|error| format!("{error:?}"))?;
                    Ok(answer.map(|body| BodyExt::map_err(body, Failure::from).boxed()))
                })
            }
            Self::Files(root) => {
                let answer = file(root, &request);
                Box::pin(async move { Ok(answer) })
            }
        }
    }
}

async fn meet(
    fault: Fault,
    backend: Backend,
    request: Request<Incoming>,
) -> Result<Answer, Failure> {
    let status = |status, code| {
        let xml = format!("<Error><Code>{code}</Code><Message>by schedule</Message></Error>");
        Ok(said(status, xml.into()))
    };
    match fault {
        Fault::Status500 => return status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        Fault::SlowDown => return status(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        Fault::Denied => return status(StatusCode::FORBIDDEN, "AccessDenied"),
        Fault::Reset => return Err("reset by schedule".into()),
        Fault::None | Fault::Truncated | Fault::Stalled => {}
    }
    let (mut parts, body) = backend.answer(request).await?.into_parts();
    if fault == Fault::None {
        return Ok(Response::from_parts(parts, body));
    }
    let mut whole = Vec::new();
    let mut frames = pin!(BodyStream::new(body));
    while let Some(frame) = frames.next().await {
        whole.extend_from_slice(&frame?.into_data().unwrap_or_default());
    }
    if whole.is_empty() {
        // What has no body, as an answer to HEAD, cannot be cut.
        return Ok(Response::from_parts(
            parts,
            said(StatusCode::OK, Bytes::new()).into_body(),
        ));
    }
    parts.headers.insert("content-length", whole.len().into());
    whole.truncate(whole.len() / 2);
    let half = stream::iter([Ok(Frame::data(Bytes::from(whole)))]);
    let body = if fault == Fault::Truncated {
        let end = stream::iter([Err("cut by schedule".into())]);
        BodyExt::boxed(StreamBody::new(half.chain(end)))
    } else {
        BodyExt::boxed(StreamBody::new(half.chain(stream::pending())))
    };
    Ok(Response::from_parts(parts, body))
}

fn said(status: StatusCode, body: Bytes) -> Answer {
    let body = Full::new(body).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = status;
    answer
}

fn file(root: &Path, request: &Request<Incoming>) -> Answer {
    let bytes = match (request.method().as_str(), request.uri().path()) {
        ("GET" | "HEAD", path) => std::fs::read(root.join(&path[1..])),
        _ => return said(StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
    };
    let Ok(bytes) = bytes.map(Bytes::from) else {
        return said(StatusCode::NOT_FOUND, Bytes::new());
    };
    let range = request.headers().get("range").map(|range| {
        let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let last: usize = last.parse().unwrap();
        first.parse::<usize>().unwrap()..(last + 1).min(bytes.len())
    });
    let etag = format!("\"{}\"", bytes.len());
    let mut answer = match range {
        None => said(StatusCode::OK, bytes.clone()),
        Some(range) => {
            let shown = format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len());
            let mut answer = said(StatusCode::PARTIAL_CONTENT, bytes.slice(range));
            let headers = answer.headers_mut();
            headers.insert("content-range", shown.parse().unwrap());
            answer
        }
    };
    answer.headers_mut().insert("etag", etag.parse().unwrap());
    answer
}
