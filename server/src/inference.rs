//! The service `inference.GRPCInferenceService` (Open Inference Protocol, KServe v2): calls are
//! translated to the native protocol and back, so both pass through the same checks, the same
//! admission and the same engine, and give the same bits.

use std::sync::Arc;

use preheat_proto::{
    Code, Error,
    inference::{
        ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
        ModelReadyRequest, ModelReadyResponse, ServerLiveRequest, ServerLiveResponse,
        ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
        grpc_inference_service_server::{GrpcInferenceService, SERVICE_NAME},
        model_metadata_response::TensorMetadata,
    },
};
use tonic::{Request, Response, Status, service::LayerExt};
use tower::ServiceBuilder;

mod ask;
mod parameters;
mod reply;
mod tensors;

use crate::{
    around::around,
    engine::Generation,
    service::{Handlers, Passed, shorten},
    stack::{Routed, Shared, call, refuse},
};
use ask::Ask;

/// What is served of the protocol.
const METHODS: [&str; 6] = [
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
];

/// The fewest digits that may stand for a fingerprint.
const VERSION_DIGITS: usize = 8;

/// The handlers.
#[derive(Clone, Debug)]
pub(crate) struct Inference {
    pub(crate) native: Handlers,
}

/// Answers methods of other implementations of the protocol in words; the generated service would
/// say nothing but the code.
pub(crate) fn served_only(service: impl Routed, shared: &Arc<Shared>) -> impl Routed {
    let layer = around(Arc::clone(shared), |_, request, next| {
        Box::pin(async {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default();
            if METHODS.contains(&method) {
                return call(next, request).await;
            }
            let method = shorten(method, 64);
            let served = METHODS.join(", ");
            let message = format!("{SERVICE_NAME}/{method} is not served here: {served} are");
            refuse(Error::new(Code::NotAReplica, message))
        })
    });
    ServiceBuilder::new().layer(layer).named_layer(service)
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        let ready = !self.native.shared.is_draining();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    /// A model that is not here is not ready, which is an answer and no error.
    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        let ready = self.model(&name, &version).is_ok() && !self.native.shared.is_draining();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: vec!["parameters".to_owned()],
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let model = self.model(&name, &version)?;
        let spec = &model.spec;
        let channels = spec.latent_channels as i64;
        let mut outputs = vec![tensor("latents", "FP32", &[-1, channels, -1, -1])];
        if spec.has_posterior {
            outputs.push(tensor("logvar", "FP32", &[-1, channels, -1, -1]));
        }
        Ok(Response::new(ModelMetadataResponse {
            versions: vec![spec.fingerprint.to_string()],
            platform: "preheat".to_owned(),
            inputs: vec![
                tensor("image", "BYTES", &[-1]),
                tensor("pixels", "UINT8", &[-1, -1, -1, 3]),
            ],
            outputs,
            name,
        }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let passed = Passed::through(&extensions)?;
        let model = self.model(&request.model_name, &request.model_version)?;
        let max_source_pixels = self.native.shared.engine.max_source_pixels();
        let (ask, native) = Ask::read(request, &model.spec, max_source_pixels)?;
        let (metadata, answer, extensions) = self
            .native
            .answer(native.into(), passed)
            .await?
            .into_parts();
        let answer = reply::write(ask, answer)?;
        Ok(Response::from_parts(metadata, answer, extensions))
    }
}

impl Inference {
    /// The weights of a model: those of this version, or where it is empty the newest.
    fn model(&self, name: &str, version: &str) -> Result<Arc<Generation>, Error> {
        let newest = self.native.find(name, "")?;
        if version.is_empty() {
            return Ok(newest);
        }
        let all = self.native.shared.engine.catalogue().list();
        let mut served: Vec<_> = all.into_iter().flatten().collect();
        served.retain(|generation| generation.name == name);
        let fingerprint = |generation: &Generation| generation.spec.fingerprint.to_string();
        let pinned = served.iter().find(|generation| {
            version.len() >= VERSION_DIGITS && fingerprint(generation).starts_with(version)
        });
        pinned.cloned().ok_or_else(|| {
            let served: Vec<_> = served.iter().map(|one| fingerprint(one)).collect();
            Error::new(
                Code::WrongFingerprint,
                format!(
                    "model `{name}` is served here in version {}, but the call wants `{}`: \
                     versions are fingerprints, so leave the version empty, pin {VERSION_DIGITS} \
                     or more of those digits, or use another replica",
                    served.join(" and, to those that pin it, "),
                    shorten(version, 64)
                ),
            )
        })
    }
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> TensorMetadata {
    TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_owned(),
    }
}
