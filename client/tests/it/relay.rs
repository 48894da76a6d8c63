//! The relay between real sockets: callers and replicas that speak bare HTTP/2, and so can say
//! everything that well-behaved libraries would not.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{self, ResponseFuture, SendRequest},
    server::SendResponse,
};
use http::{HeaderMap, HeaderValue, Request, Response};
use preheat_client::relay::{self, Args, Config, Fleet, seam::Dispatch};
use prost::Message;
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

mod asks;
mod fake;
mod first;
mod fleet;
mod hostile;
mod passes;

pub(crate) use self::fake::{Fake, info};
use self::first::First;

pub(crate) const ENCODE: &str = "/preheat.v1.Encoder/Encode";
pub(crate) const INFO: &str = "/preheat.v1.Encoder/Info";
/// Some method that the relay knows nothing of.
pub(crate) const CHAT: &str = "/some.Service/Chat";

/// Windows larger than any body here, so that nothing hangs on the test's own flow control.
const WINDOW: u32 = 256 << 20;

/// A relay in this process.
pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    pub(crate) task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Relay {
    /// In front of these replicas, once all of them are known to be up. A call goes to the first
    /// that takes it.
    pub(crate) async fn start(replicas: &[&Fake], options: &[&str]) -> Self {
        let uris: Vec<String> = replicas.iter().map(|fake| fake.uri()).collect();
        let first = Arc::new(First::start(&uris));
        all_up(&*first, uris.len()).await;
        Self::with(first, &config(&uris, options)).await
    }

    /// The same with the balancer of the product.
    pub(crate) async fn balancing(replicas: &[&Fake], options: &[&str]) -> Self {
        let uris: Vec<String> = replicas.iter().map(|fake| fake.uri()).collect();
        let config = config(&uris, options);
        let fleet = Arc::new(Fleet::start(&config).await.unwrap());
        all_up(&*fleet, uris.len()).await;
        Self::with(fleet, &config).await
    }

    pub(crate) async fn with(dispatch: Arc<impl Dispatch>, config: &Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let config = config.clone();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            relay::serve(listener, dispatch, &config, stopped).await
        });
        let stop = Some(stop);
        Self { addr, stop, task }
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn caller(&self) -> Caller {
        Caller::connect(self.addr).await
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn all_up(dispatch: &impl Dispatch, count: usize) {
    let mut serving = dispatch.serving();
    within(serving.wait_for(|serving| serving.len() == count))
        .await
        .unwrap();
}

pub(crate) fn config(replicas: &[String], options: &[&str]) -> Config {
    let list = replicas.join(",");
    let options = ["--replicas", &list]
        .into_iter()
        .chain(options.iter().copied());
    Config::try_from(&Args::parse_from(options).unwrap()).unwrap()
}

/// A connection to a relay. Closed when dropped.
pub(crate) struct Caller {
    send: SendRequest<Bytes>,
    connection: AbortHandle,
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Caller {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).await.unwrap();
        let (send, connection) = client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(1 << 20)
            .handshake(socket)
            .await
            .unwrap();
        let connection = tokio::spawn(connection).abort_handle();
        Self { send, connection }
    }

    /// Begins a call.
    pub(crate) async fn begin(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::post(format!("http://relay{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut send = self.send.clone().ready().await.unwrap();
        send.send_request(request.body(()).unwrap(), false).unwrap()
    }

    /// A whole call to Encode of the model `vae`.
    pub(crate) async fn encode(&self, headers: &[(&str, &str)], body: Bytes) -> Answer {
        let headers = [
            &[("preheat-model", "vae"), ("preheat-cost-pixels", "9")],
            headers,
        ]
        .concat();
        let (answer, mut send) = self.begin(ENCODE, &headers).await;
        // A refusal may come before the body is through.
        let sending = async {
            let _ = push(&mut send, body, true).await;
        };
        let (answer, ()) = tokio::join!(Answer::read(answer), sending);
        answer
    }
}

/// An answer that has ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) async fn read(answer: ResponseFuture) -> Self {
        let answer = within(answer).await.unwrap();
        let headers = answer.headers().clone();
        let (body, trailers) = within(read(answer.into_body())).await;
        Self {
            headers,
            body,
            trailers,
        }
    }

    /// Headers and trailers: where a status is depends on when it was known.
    pub(crate) fn said(&self, name: &str) -> &[u8] {
        let value = self.trailers.get(name).or_else(|| self.headers.get(name));
        value.map_or(b"", HeaderValue::as_bytes)
    }

    pub(crate) fn code(&self) -> &str {
        std::str::from_utf8(self.said("grpc-status")).unwrap()
    }

    pub(crate) fn message(&self) -> String {
        String::from_utf8_lossy(self.said("grpc-message")).replace("%20", " ")
    }
}

/// What must come; the bound is only there so that a bug is no hang.
const BOUND: Duration = Duration::from_secs(60);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("in time")
}

/// Waits for something that must come.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < BOUND, "never: {what}");
        tokio::task::yield_now().await;
    }
}

/// Sends as fast as the peer lets us.
pub(crate) async fn push(
    send: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    end: bool,
) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        send.reserve_capacity(bytes.len());
        let Some(capacity) = poll_fn(|context| send.poll_capacity(context)).await else {
            return Ok(());
        };
        let now = bytes.split_to(capacity?.min(bytes.len()));
        send.send_data(now, end && bytes.is_empty())?;
    }
    Ok(())
}

/// Reads as much as comes.
pub(crate) async fn read(mut body: RecvStream) -> (Bytes, HeaderMap) {
    let mut all = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.ok().flatten();
    (all.into(), trailers.unwrap_or_default())
}

/// The next bytes.
pub(crate) async fn next(body: &mut RecvStream) -> Bytes {
    let data = within(body.data()).await.unwrap().unwrap();
    body.flow_control().release_capacity(data.len()).unwrap();
    data
}

pub(crate) fn begun() -> Response<()> {
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(()).unwrap()
}

pub(crate) fn map(entries: &[(&'static str, &'static str)]) -> HeaderMap {
    let entry = |(name, value): &(&'static str, &'static str)| {
        let name = http::HeaderName::from_static(name);
        (name, HeaderValue::from_static(value))
    };
    entries.iter().map(entry).collect()
}

/// A whole answer.
pub(crate) async fn whole(mut respond: SendResponse<Bytes>, body: Bytes) {
    let mut send = respond.send_response(begun(), false).unwrap();
    if push(&mut send, body, false).await.is_ok() {
        let _ = send.send_trailers(map(&[("grpc-status", "0")]));
    }
}

/// Health: that it serves, for as long as somebody wants to know.
async fn well(mut respond: SendResponse<Bytes>) {
    let mut send = respond.send_response(begun(), false).unwrap();
    let status = tonic_health::pb::health_check_response::ServingStatus::Serving;
    let answer = tonic_health::pb::HealthCheckResponse {
        status: status.into(),
    };
    if push(&mut send, framed(&answer), false).await.is_ok() {
        let _ = poll_fn(|context| send.poll_reset(context)).await;
    }
}

/// An error without a body.
pub(crate) fn fail(mut respond: SendResponse<Bytes>, status: HeaderMap) {
    let mut response = begun();
    response.headers_mut().extend(status);
    respond.send_response(response, true).unwrap();
}

pub(crate) fn framed(message: &impl Message) -> Bytes {
    let body = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes.into()
}
