//! Calls of the open protocol in the making, and their answers.

use std::collections::HashMap;

use bytes::Bytes;
use preheat_models::{Encoder, Error, LatentNorm, Moments, Pixels, Spec, synthetic::Synthetic};
use preheat_proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse,
    grpc_inference_service_client::GrpcInferenceServiceClient,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use preheat_server::Model;
use tonic::{Request, Status, transport::Channel};

use crate::harness::{Replica, soon};

pub(crate) type Client = GrpcInferenceServiceClient<Channel>;

pub(crate) fn client(channel: Channel) -> Client {
    Client::new(channel).max_decoding_message_size(64 << 20)
}

/// A request in the making.
#[derive(Clone, Debug)]
pub(crate) struct Infer(pub(crate) ModelInferRequest);

impl Infer {
    /// For files, as raw BYTES.
    pub(crate) fn files(files: &[&[u8]]) -> Self {
        Self::raw("image", "BYTES", &[files.len() as i64], elements(files))
    }

    /// For RGB bytes.
    pub(crate) fn pixels(shape: &[i64], bytes: Vec<u8>) -> Self {
        Self::raw("pixels", "UINT8", shape, bytes)
    }

    fn raw(name: &str, datatype: &str, shape: &[i64], raw: Vec<u8>) -> Self {
        let input = InferInputTensor {
            name: name.into(),
            datatype: datatype.into(),
            shape: shape.into(),
            ..Default::default()
        };
        Self(ModelInferRequest {
            model_name: "m".into(),
            id: "call-7".into(),
            inputs: vec![input],
            raw_input_contents: vec![raw.into()],
            ..Default::default()
        })
    }

    pub(crate) fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.parameters.insert(name.into(), parameter(value));
        self
    }

    pub(crate) fn size(self, width: i64, height: i64) -> Self {
        self.set("width", width).set("height", height)
    }

    pub(crate) fn output(mut self, name: &str) -> Self {
        self.0.outputs.push(InferRequestedOutputTensor {
            name: name.into(),
            parameters: HashMap::new(),
        });
        self
    }

    pub(crate) async fn send(&self, replica: &Replica) -> Result<Inferred, Status> {
        self.call(client(replica.channel.clone())).await
    }

    pub(crate) async fn call(&self, mut client: Client) -> Result<Inferred, Status> {
        let answer = soon(client.model_infer(Request::new(self.0.clone()))).await?;
        Ok(Inferred(answer.into_inner()))
    }
}

/// The raw form of a tensor of BYTES.
pub(crate) fn elements(files: &[&[u8]]) -> Vec<u8> {
    let element = |file: &&[u8]| [&(file.len() as u32).to_le_bytes(), *file].concat();
    files.iter().flat_map(element).collect()
}

/// A value of a parameter.
pub(crate) struct Value(ParameterChoice);

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self(ParameterChoice::Int64Param(value))
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        i64::from(value).into()
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self(ParameterChoice::Uint64Param(value))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self(ParameterChoice::BoolParam(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self(ParameterChoice::DoubleParam(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self(ParameterChoice::StringParam(value.into()))
    }
}

pub(crate) fn parameter(value: impl Into<Value>) -> InferParameter {
    InferParameter {
        parameter_choice: Some(value.into().0),
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Inferred(pub(crate) ModelInferResponse);

impl Inferred {
    /// Datatype, shape and bytes of a tensor, whose lengths must agree.
    pub(crate) fn tensor(&self, name: &str) -> (&str, &[i64], &Bytes) {
        let Self(answer) = self;
        assert_eq!(answer.outputs.len(), answer.raw_output_contents.len());
        let named = |index: &usize| answer.outputs[*index].name == name;
        let index = (0..answer.outputs.len()).find(named).expect(name);
        let (tensor, raw) = (&answer.outputs[index], &answer.raw_output_contents[index]);
        let size = if tensor.datatype == "FP32" { 4 } else { 2 };
        assert_eq!(
            tensor.shape.iter().product::<i64>() * size,
            raw.len() as i64
        );
        (&tensor.datatype, &tensor.shape, raw)
    }

    pub(crate) fn parameter(&self, name: &str) -> &str {
        match &self.0.parameters[name].parameter_choice {
            Some(ParameterChoice::StringParam(value)) => value,
            other => panic!("{name} is {other:?}"),
        }
    }
}

/// A model with a log-variance and a scale: the mean is the synthetic one.
struct Probabilistic(Synthetic, Spec);

impl Encoder for Probabilistic {
    fn spec(&self) -> &Spec {
        &self.1
    }

    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error> {
        let moments = self.0.encode(pixels)?;
        let logvar = moments.mean.iter().map(|mean| mean * 2.0 - 3.0).collect();
        Ok(Moments {
            logvar: Some(logvar),
            ..moments
        })
    }
}

/// The model `m`, with a posterior.
pub(crate) fn probabilistic() -> Vec<Model> {
    let inner = Synthetic::new(Default::default());
    let spec = Spec {
        has_posterior: true,
        norm: LatentNorm::ShiftScale {
            shift: 0.25,
            scale: 0.5,
        },
        ..inner.spec().clone()
    };
    vec![Model::new("m", vec![Box::new(Probabilistic(inner, spec))])]
}
