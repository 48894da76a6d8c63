//! A tower layer from one async function, so that [`stack`](crate::stack) reads as prose.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service, util::BoxCloneSyncService};

use crate::stack::Shared;

/// What is below a layer. Boxed, which costs a hundred nanoseconds a call and spares us a type
/// parameter on every layer.
pub(crate) type Next = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// What a layer does with a call: answers it, or passes it to what is below.
pub(crate) type Around = fn(Arc<Shared>, Request<Body>, Next) -> BoxFuture<'static, Response<Body>>;

/// A layer that runs `f` around everything below it.
pub(crate) fn around(shared: Arc<Shared>, f: Around) -> AroundLayer {
    AroundLayer { shared, f }
}

/// See [`around`].
#[derive(Clone, Debug)]
pub(crate) struct AroundLayer {
    shared: Arc<Shared>,
    f: Around,
}

impl<S> Layer<S> for AroundLayer
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Service = AroundService;

    fn layer(&self, below: S) -> AroundService {
        AroundService {
            layer: self.clone(),
            below: BoxCloneSyncService::new(below),
        }
    }
}

/// See [`around`].
#[derive(Clone, Debug)]
pub(crate) struct AroundService {
    layer: AroundLayer,
    below: Next,
}

impl Service<Request<Body>> for AroundService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Nothing here pushes back by not being ready: refusing is an answer.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.layer.shared);
        let answer = (self.layer.f)(shared, request, self.below.clone());
        Box::pin(async { Ok(answer.await) })
    }
}
