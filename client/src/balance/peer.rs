//! One replica as it is reached: its connections, and what it says of itself.

use std::{sync::Arc, time::Duration};

use preheat_proto::{
    Code, Error as CallError, rope,
    v1::{InfoRequest, InfoResponse},
};
use tonic::{Request, Status, Streaming};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

use crate::{
    balance::{discover::Target, types::Outcome},
    error::Error,
    security::{Bearer, Security},
    wire::{self, Connections},
};

/// How a fleet is called.
#[derive(Clone)]
pub(crate) struct Calling {
    pub(crate) security: Security,
    pub(crate) bearer: Option<Bearer>,
    /// Connections to one replica, at most.
    pub(crate) connections: u32,
    pub(crate) connect_timeout: Duration,
}

impl Calling {
    /// # Errors
    /// A token file that cannot be read.
    pub(crate) fn new(
        security: &Security,
        connections: u32,
        connect_timeout: Duration,
    ) -> Result<Self, Error> {
        Ok(Self {
            bearer: security.bearer()?,
            security: security.clone(),
            connections,
            connect_timeout,
        })
    }
}

/// A replica. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Its URI.
    pub(crate) name: Arc<str>,
    pub(crate) connections: Connections,
    pub(crate) tls: bool,
    pub(crate) bearer: Option<Bearer>,
}

impl Peer {
    /// Connects lazily. Must be called inside a runtime.
    ///
    /// # Errors
    /// A URI and settings that do not fit together.
    pub(crate) fn new(target: &Target, calling: &Calling) -> Result<Self, Error> {
        let named = target.server_name.as_deref();
        let endpoint = wire::endpoint_named(&target.uri, named, &calling.security)?;
        let tls = endpoint.uri().scheme_str() == Some("https");
        let endpoint = endpoint.connect_timeout(calling.connect_timeout);
        Ok(Self {
            name: target.uri.clone(),
            connections: Connections::lazy(endpoint, calling.connections),
            tls,
            bearer: calling.bearer.clone(),
        })
    }

    /// What it serves.
    pub(crate) async fn info(&self) -> Result<InfoResponse, CallError> {
        let mut request = Request::new(InfoRequest {});
        self.sign(&mut request);
        self.connections.info(request).await.map_err(|status| {
            let mut error = self.translate(&status);
            // Some TLS libraries hang up without a word. Between two calls that would be a replica
            // that ends; on the first call it is a hint.
            let hung_up = ["closed", "reset", "broken pipe"];
            if hung_up.iter().any(|word| error.message.contains(word)) {
                error.message.push_str(if self.tls {
                    "; if it wants a certificate of the loader: set `security.client_cert`"
                } else {
                    "; if it speaks TLS: use https://"
                });
            }
            error
        })
    }

    /// How it is, now and whenever that changes; the end of the stream is the end of the connection.
    pub(crate) async fn health(&self) -> Result<Streaming<HealthCheckResponse>, Status> {
        let mut request = Request::new(HealthCheckRequest::default());
        self.sign(&mut request);
        // Whatever answers there may say what it likes.
        let mut client = HealthClient::new(rope::Caller(self.connections.channel()));
        let watch = client.watch(request).await?;
        Ok(watch.into_inner())
    }

    pub(crate) fn sign<T>(&self, request: &mut Request<T>) {
        if let Some(bearer) = &self.bearer {
            bearer.sign(request);
        }
    }

    pub(crate) fn translate(&self, status: &Status) -> CallError {
        if let Some(failure) = wire::failure(status, self.tls) {
            return failure;
        }
        let mut error = CallError::from(status);
        if error.code == Code::Unauthenticated {
            match &self.bearer {
                // Rotated under way: the same call may pass with the new one.
                Some(bearer) if bearer.refresh() => error.code = Code::Unavailable,
                Some(_) => {}
                None => error.message.push_str("; set `security.token_file`"),
            }
        }
        error
    }
}

/// How long a replica is left alone that could not do a call, and did not say for how long.
const PAUSE: Duration = Duration::from_millis(100);

/// What a failure says about the replica. `lost`: the connection was lost while it had the call.
pub(crate) fn outcome(error: CallError, lost: bool) -> Outcome {
    match error.code {
        Code::Busy => Outcome::Busy(error.retry_after.unwrap_or(PAUSE)),
        // It lives, and this call was too late for it, or cut off by somebody on the way.
        Code::Deadline | Code::Cancelled => Outcome::Busy(PAUSE),
        Code::Unavailable => Outcome::Away {
            underway: lost,
            reason: error.message.into(),
        },
        Code::UnknownModel | Code::WrongFingerprint | Code::Unauthenticated | Code::NotAReplica => {
            Outcome::NotHere(error)
        }
        Code::BadRequest | Code::TooLarge => Outcome::Refused(error),
        Code::Internal => Outcome::Fault(error),
    }
}
