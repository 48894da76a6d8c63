//! What stands in front of every service on the port.

use std::sync::Arc;

use http::{Request, Response};
use tonic::{Status, body::Body};

use crate::{
    around::{AroundLayer, Next, around},
    body,
    stack::{ENCODE, Shared, call},
};

/// Health is answered without a token: the probes of Kubernetes cannot send one, and all it tells
/// is whether the replica serves.
const OPEN: &str = "/grpc.health.v1.Health/";

/// Tokens, where the replica wants some; then a watch on the body.
pub(crate) fn door(shared: &Arc<Shared>) -> AroundLayer {
    around(Arc::clone(shared), |shared, request, next| {
        Box::pin(check(shared, request, next))
    })
}

async fn check(shared: Arc<Shared>, request: Request<Body>, next: Next) -> Response<Body> {
    let tokens = shared.tokens.as_ref();
    let tokens = tokens.filter(|_| !request.uri().path().starts_with(OPEN));
    // A copy, so that a rotation does not wait for calls.
    if let Some(tokens) = tokens.map(|current| Arc::clone(&current.borrow()))
        && let Err(error) = tokens.check(request.headers())
    {
        let status = Status::from(error);
        shared.metrics.calls(status.code()).increment(1);
        return status.into_http();
    }
    let is_encode = ENCODE.contains(&request.uri().path());
    let seconds = is_encode.then(|| shared.metrics.wire_seconds.clone());
    call(next, body::watched(request, seconds)).await
}
