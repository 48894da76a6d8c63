//! What goes around the stubs of tonic.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
};

use super::{Arriving, Laden, Rope, arriving::Begun, frames::Resumed, gather::gather};
use crate::{
    error::{Code, Error},
    tame::tamed,
    v1::{EncodeRequest, EncodeResponse},
};

/// The method whose messages are worth it.
const ENCODE: &str = "/preheat.v1.Encoder/Encode";

/// A request to send through a [`Caller`].
///
/// # Errors
/// As [`Rope::new`].
pub fn request<M: Laden>(request: tonic::Request<M>) -> Result<tonic::Request<M>, Status> {
    let (metadata, mut extensions, message) = request.into_parts();
    extensions.insert(Rope::new(message)?);
    let request = tonic::Request::from_parts(metadata, extensions, M::default());
    Ok(request)
}

/// A response to send through an [`Answerer`].
///
/// # Errors
/// As [`Rope::new`].
pub fn response<M: Laden>(response: tonic::Response<M>) -> Result<tonic::Response<M>, Status> {
    let (metadata, message, mut extensions) = response.into_parts();
    extensions.insert(Rope::new(message)?);
    let response = tonic::Response::from_parts(metadata, M::default(), extensions);
    Ok(response)
}

/// The message that came past the codec, or else the one that did not.
pub fn received<M: Laden>(extensions: &mut Extensions, decoded: M) -> M {
    match extensions.remove::<Received<M>>() {
        Some(Received(message)) => message,
        None => decoded,
    }
}

/// The request that is being received past the codec, or else the one that was decoded.
pub fn arriving(extensions: &mut Extensions, decoded: EncodeRequest) -> Arriving {
    let begun = extensions.remove::<Waiting>();
    let begun = begun.and_then(|waiting| waiting.take());
    begun.map_or_else(|| decoded.into(), |arriving| *arriving)
}

/// A request on its way to its handler; whoever takes it out reads it.
#[derive(Clone)]
struct Waiting(Arc<Mutex<Option<Box<Arriving>>>>);

impl Waiting {
    fn take(&self) -> Option<Box<Arriving>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A message that was not decoded by the codec.
#[derive(Clone)]
struct Received<M>(M);

/// Beneath a client's stub. Error details that would make tonic panic are taken off.
#[derive(Clone, Debug)]
pub struct Caller<S>(pub S);

impl<S> Service<Request<Body>> for Caller<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Response<Body>, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let encodes = request.uri().path() == ENCODE;
        if let Some(rope) = request.extensions_mut().remove::<Rope>() {
            *request.body_mut() = Body::new(Pieces::new(rope, None));
        }
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut response = tamed(answer.await?);
            if encodes {
                let body = std::mem::take(response.body_mut());
                let gathered = gather::<EncodeResponse>(body).await;
                *response.body_mut() = gathered.body;
                if let Some(message) = gathered.message {
                    response.extensions_mut().insert(Received(message));
                }
            }
            Ok(response)
        })
    }
}

/// Around a server's stub.
#[derive(Clone, Debug)]
pub struct Answerer<S>(pub S);

impl<S> Service<Request<Body>> for Answerer<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Response<Body>, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that was polled must be the one that is called.
        let polled = self.0.clone();
        let mut stub = std::mem::replace(&mut self.0, polled);
        Box::pin(async move {
            if request.uri().path() == ENCODE {
                let body = std::mem::take(request.body_mut());
                // If it does say how it is compressed, the stub knows what it takes.
                let encoding = request.headers().get("grpc-encoding");
                let says_how = encoding.is_some_and(|encoding| encoding != "identity");
                *request.body_mut() = match Arriving::begin(body).await {
                    Begun::Odd(_, Some(broken)) if !says_how => {
                        let status = Status::from(Error::new(Code::BadRequest, broken));
                        return Ok(status.into_http());
                    }
                    Begun::Odd(body, _) => body,
                    Begun::Message(arriving) => {
                        let waiting = Waiting(Arc::new(Mutex::new(Some(arriving))));
                        request.extensions_mut().insert(waiting);
                        Resumed::empty_message()
                    }
                };
            }
            let mut response = stub.call(request).await?;
            if let Some(rope) = response.extensions_mut().remove::<Rope>() {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
                *response.body_mut() = Body::new(Pieces::new(rope, Some(trailers)));
            }
            Ok(response)
        })
    }
}

impl<S: NamedService> NamedService for Answerer<S> {
    const NAME: &'static str = S::NAME;
}

/// A body of the pieces of a rope.
struct Pieces {
    /// In reverse.
    pieces: Vec<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Pieces {
    fn new(rope: Rope, trailers: Option<HeaderMap>) -> Self {
        let pieces = rope.pieces;
        Self { pieces, trailers }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.pieces.pop().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    /// Spares a request the empty frame that would otherwise end it.
    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.trailers.is_none()
    }
}
