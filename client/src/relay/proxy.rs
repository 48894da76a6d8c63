//! A call's way through the relay.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, Method as Verb, Request, Response, StatusCode, header};
use preheat_proto::{Code, Error as CallError};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tower::ServiceExt as _;

use super::{
    answer::{self, answer, refusal},
    ask,
    call::{Call, Inner, Method, Reply},
    headers,
    health::Health,
    inflow::{Budget, Inflow},
    info,
    reread::Current,
    seam::Dispatch,
    security::Tokens,
};
use crate::balance::Outcome;

/// Answered here, for the whole fleet.
const INFO: &str = "/preheat.v1.Encoder/Info";
const HEALTH: &str = "/grpc.health.v1.Health/";
/// Replicas that a call which costs nothing is tried on.
const LIGHT_TRIES: usize = 3;

/// What all calls share.
pub(super) struct Shared<D> {
    pub(super) dispatch: Arc<D>,
    pub(super) budget: Arc<Budget>,
    pub(super) health: Health,
    /// Who may call; `None`: everybody.
    pub(super) tokens: Option<Current<Tokens>>,
}

/// Answers one call. Dropping the future, as when the caller goes away, ends it everywhere.
pub(super) async fn serve<D: Dispatch>(
    shared: Arc<Shared<D>>,
    from: SocketAddr,
    mut request: Request<Body>,
) -> Response<Body> {
    if let Some(response) = not_grpc(&request) {
        return response;
    }
    let path = request.uri().path();
    if path.starts_with(HEALTH) {
        // Without a token: the probes of Kubernetes cannot send one.
        let Ok(response) = shared.health.service.clone().oneshot(request).await;
        return response;
    }
    if let Some(tokens) = &shared.tokens {
        if let Err(error) = tokens.get().check(request.headers()) {
            return refusal(error, None);
        }
        // For this hop, as it seems; a replica that wants one gets the balancer's own.
        request.headers_mut().remove(header::AUTHORIZATION);
    }
    if path_of(&request) == INFO {
        let serving = shared.dispatch.serving().borrow().clone();
        return info::answer(&serving);
    }
    forward(&shared, from, request).await
}

fn path_of(request: &Request<Body>) -> &str {
    request.uri().path()
}

/// Browsers and scanners, told as HTTP tells it.
fn not_grpc(request: &Request<Body>) -> Option<Response<Body>> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let status = match *request.method() {
        Verb::POST if is_grpc => return None,
        Verb::POST => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        _ => StatusCode::METHOD_NOT_ALLOWED,
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    Some(response)
}

async fn forward<D: Dispatch>(
    shared: &Shared<D>,
    from: SocketAddr,
    request: Request<Body>,
) -> Response<Body> {
    let call = receive(request, &shared.budget);
    let dispatched = async {
        tokio::select! {
            // First, so that a body that breaks as it begins is not asked about.
            biased;
            error = call.0.body.breaks() => Err(error),
            result = dispatch(shared, from, &call) => result,
        }
    };
    let result = match call.0.deadline {
        Some(deadline) => timeout_at(deadline, dispatched)
            .await
            .unwrap_or_else(|_| Err(answer::too_late())),
        None => dispatched.await,
    };
    match result {
        Ok(reply) => answer(reply, call, &shared.dispatch),
        Err(error) => {
            let words = call.0.words(&error);
            let mut response = refusal(error, words);
            if call.0.method.is_work() {
                answer::report(response.headers_mut(), shared.dispatch.load());
            }
            response
        }
    }
}

fn receive(request: Request<Body>, budget: &Arc<Budget>) -> Call {
    let (head, body) = request.into_parts();
    let patience = headers::patience(&head.headers);
    let path = head.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    let mut headers: HeaderMap = head.headers;
    headers::strip(&mut headers);
    Call(Arc::new(Inner {
        method: Method::of(path.path()),
        path,
        headers,
        body: Inflow::new(body, Arc::clone(budget)),
        deadline: patience.map(|patience| Instant::now() + patience),
        needed_at: Default::default(),
        refusal: Default::default(),
    }))
}

async fn dispatch<D: Dispatch>(
    shared: &Shared<D>,
    from: SocketAddr,
    call: &Call,
) -> Result<Reply, CallError> {
    let serving = shared.dispatch.serving().borrow().clone();
    match call.0.method {
        Method::Light => return light(shared, call, "").await,
        Method::About => {
            let named = ask::named(&call.0, &serving).await?;
            return light(shared, call, &named.model).await;
        }
        Method::Encode | Method::Infer | Method::InferStream => {}
    }
    let asked = ask::ask(&call.0, from, &serving).await?;
    if asked.model.is_empty() {
        // Whatever it is, a replica will say what it thinks of it.
        return light(shared, call, "").await;
    }
    shared.dispatch.call(asked, call.clone()).await
}

/// Costs nothing, so it need not wait for its turn.
async fn light<D: Dispatch>(
    shared: &Shared<D>,
    call: &Call,
    model: &str,
) -> Result<Reply, CallError> {
    let mut last = None;
    for _ in 0..LIGHT_TRIES {
        // One that does not serve it can say so, too.
        let replica = shared.dispatch.any(model);
        let Some(replica) = replica.or_else(|| shared.dispatch.any("")) else {
            break;
        };
        match replica.send(call.clone()).await {
            Ok(reply) => return Ok(reply),
            Err(Outcome::Refused(error) | Outcome::NotHere(error) | Outcome::Fault(error)) => {
                return Err(error);
            }
            Err(Outcome::Away { reason, .. }) => {
                last = Some(CallError::new(Code::Unavailable, reason.to_string()));
            }
            Err(Outcome::Busy(pushback)) => {
                last = Some(CallError::busy("the replicas are busy", pushback));
            }
            Err(Outcome::Answered) => {}
        }
    }
    Err(last.unwrap_or_else(info::nobody))
}
