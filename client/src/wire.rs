//! The connections to one replica. Several, because each is the work of one core, and one stalled
//! transfer then does not hold the others up.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use preheat_proto::{
    Code, Error as CallError, limits, rope,
    v1::{EncodeRequest, EncodeResponse, InfoRequest, InfoResponse, encoder_client::EncoderClient},
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    error::Error,
    security::{Security, advice},
};

/// Flow-control window of one call: what may be under way unread.
const STREAM_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// The same for the connection: four slow calls do not stop a fifth.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// Largest frame a replica may send us. Latents that come in one frame are not copied any more, so
/// it has room for those of a call; and a call may not hold its connection up for much longer.
const MAX_FRAME_BYTES: u32 = 8 * 1024 * 1024;
/// How often a silent replica is asked whether it lives, even between calls.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long it may take to say so: then its calls fail, and are retried.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Most connections to one replica: beyond, they only cost memory on both sides.
pub const MAX_CONNECTIONS: u32 = 16;
/// Connections to one replica unless told otherwise: each moves more than a gigabyte a second. Made
/// only as calls overlap, so that a loader with one call at a time has one.
pub const DEFAULT_CONNECTIONS: u32 = 2;

type Stub = EncoderClient<rope::Caller<Channel>>;

/// The connections to one replica. Clones share them. Each is made when needed and remade when
/// lost.
#[derive(Clone, Debug)]
pub struct Connections {
    lines: Arc<[Line]>,
}

#[derive(Debug)]
struct Line {
    stub: Stub,
    channel: Channel,
    /// Calls under way.
    calls: Arc<AtomicUsize>,
}

/// The body of an answer whose call counts as under way until this is dropped.
#[cfg(feature = "relay")]
#[derive(Debug)]
pub struct Counted {
    /// The body itself.
    pub body: tonic::body::Body,
    _underway: Underway,
}

/// A call under way; no longer counted when dropped.
#[derive(Debug)]
struct Underway(Arc<AtomicUsize>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connections {
    /// Up to `count` connections, 1..=[`MAX_CONNECTIONS`], none of them made yet. Must be called
    /// inside a runtime.
    pub fn lazy(endpoint: Endpoint, count: u32) -> Self {
        let endpoint = transport(endpoint);
        let line = |_| {
            let channel = endpoint.connect_lazy();
            Line {
                stub: EncoderClient::new(rope::Caller(channel.clone()))
                    .max_decoding_message_size(limits::MAX_MESSAGE_BYTES),
                channel,
                calls: Arc::default(),
            }
        };
        Self {
            lines: (0..count.clamp(1, MAX_CONNECTIONS)).map(line).collect(),
        }
    }

    /// One Encode call, on the connection with the fewest.
    ///
    /// # Errors
    /// As the replica or the transport says.
    pub async fn encode(
        &self,
        request: Request<EncodeRequest>,
    ) -> Result<Response<EncodeResponse>, Status> {
        let (line, _underway) = self.quietest();
        let mut stub = line.stub.clone();
        let request = rope::request(request)?;
        let (metadata, answer, mut extensions) = stub.encode(request).await?.into_parts();
        let answer = rope::received(&mut extensions, answer);
        Ok(Response::from_parts(metadata, answer, extensions))
    }

    /// What the replica serves.
    ///
    /// # Errors
    /// As for [`Self::encode`].
    pub async fn info(&self, request: Request<InfoRequest>) -> Result<InfoResponse, Status> {
        let (line, _underway) = self.quietest();
        let mut stub = line.stub.clone();
        stub.info(request).await.map(Response::into_inner)
    }

    /// The connection that is always there. What is long and light may share it with any call.
    pub(crate) fn channel(&self) -> Channel {
        let first = self.lines.first();
        first.expect("there is at least one").channel.clone()
    }

    /// Any call, undecoded, on the connection with the fewest: it counts there until the body of
    /// the answer is dropped.
    ///
    /// # Errors
    /// As the transport says.
    #[cfg(feature = "relay")]
    pub async fn raw(
        &self,
        request: http::Request<tonic::body::Body>,
    ) -> Result<http::Response<Counted>, tonic::transport::Error> {
        use tower::ServiceExt as _;

        let (line, underway) = self.quietest();
        let mut channel = line.channel.clone();
        let answer = tower::Service::call(channel.ready().await?, request).await?;
        let counted = |body| Counted {
            body,
            _underway: underway,
        };
        Ok(answer.map(counted))
    }

    /// The first of those with the fewest calls: idle connections further on are never made.
    fn quietest(&self) -> (&Line, Underway) {
        let calls = |line: &&Line| line.calls.load(Ordering::Relaxed);
        let line = self.lines.iter().min_by_key(calls);
        let line = line.expect("there is at least one");
        line.calls.fetch_add(1, Ordering::Relaxed);
        (line, Underway(line.calls.clone()))
    }
}

/// An endpoint as it is typed, with TLS where it begins with `https://`.
///
/// # Errors
/// [`Error::Config`], naming the field: `endpoint`, or one of [`Security`].
pub fn endpoint(uri: &str, security: &Security) -> Result<Endpoint, Error> {
    endpoint_named(uri, None, security)
}

/// The same for an address that a name server gave: its certificate must carry `server_name`, which
/// was resolved, unless [`Security::server_name`] says otherwise.
///
/// # Errors
/// As for [`endpoint`].
pub fn endpoint_named(
    uri: &str,
    server_name: Option<&str>,
    security: &Security,
) -> Result<Endpoint, Error> {
    let advice = "must look like http://host:port or https://host:port";
    let refuse = |why| Error::config("endpoint", format!("is `{uri}`, {why}"));
    let endpoint = Endpoint::from_shared(uri.to_owned()).map_err(|_| refuse(advice))?;
    let scheme = endpoint.uri().scheme_str();
    match (scheme, endpoint.uri().host()) {
        (Some("https"), Some(_)) => {
            let mut tls = security.tls()?;
            if let (Some(name), None) = (server_name, &security.server_name) {
                tls = tls.domain_name(name);
            }
            endpoint
                .tls_config(tls)
                .map_err(|error| Error::config("security", deepest(&error)))
        }
        (Some("http"), Some(_)) => security.without_tls().map(|()| endpoint),
        _ => Err(refuse(advice)),
    }
}

/// Whether a call failed because no connection could be made: the replica never had it.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A failure of the connection in words, with advice where there is some; `None` for what the
/// replica itself has answered. Only a failed connection has a cause; whatever code tonic gave it,
/// the replica is away. `tls`: whether the endpoint begins with `https://`.
pub fn failure(status: &Status, tls: bool) -> Option<CallError> {
    let mut message = deepest(status.source()?);
    if let Some(advice) = advice(&message, tls) {
        message = format!("{advice} ({message})");
    }
    Some(CallError::new(Code::Unavailable, message))
}

/// The innermost cause of an error, in words, which says most.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The settings of every connection of ours.
fn transport(endpoint: Endpoint) -> Endpoint {
    endpoint
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
}
