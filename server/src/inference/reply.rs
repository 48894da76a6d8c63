//! A native answer → the answer of the open protocol.

use std::ops::Range;

use bytes::Bytes;
use preheat_proto::{
    Code, DType, Error, ItemCode, Meta, Posterior, ReplyMeta, Scale,
    batch::ArchivedReplyMeta,
    dtype::tensor_stride,
    inference::{
        InferParameter, ModelInferResponse, infer_parameter::ParameterChoice,
        model_infer_response::InferOutputTensor,
    },
    v1,
};
use tonic::Status;

use super::ask::{Ask, Output};

/// Translates an answer.
///
/// # Errors
/// The first item that failed: this protocol has no place for the fate of one item.
pub(crate) fn write(ask: Ask, answer: v1::EncodeResponse) -> Result<ModelInferResponse, Status> {
    let meta = Meta::<ReplyMeta>::open(answer.meta_version, &answer.meta)?;
    let meta = meta.view();
    let ids: Vec<u64> = (0..ask.items as u64).collect();
    let tensor = meta.check(&ids, answer.latents.len())?;
    check_items(ask.tensor, meta)?;
    let parts = ask
        .outputs
        .iter()
        .map(|&output| match (ask.posterior, output) {
            (Posterior::Moments, Output::Latents) => 0..tensor / 2,
            (Posterior::Moments, Output::Logvar) => tensor / 2..tensor,
            _ => 0..tensor,
        });
    let raw = parts.map(|part| dense(&answer.latents, tensor, ask.items, part));
    Ok(ModelInferResponse {
        raw_output_contents: raw.collect::<Result<_, _>>()?,
        outputs: ask
            .outputs
            .iter()
            .map(|output| describe(&ask, meta, *output))
            .collect(),
        parameters: [
            ("fingerprint", answer.fingerprint.as_str()),
            ("posterior", posterior(ask.posterior)),
            ("scale", scale(ask.scale)),
        ]
        .map(|(name, value)| (name.to_owned(), text(value)))
        .into(),
        model_name: ask.model,
        model_version: answer.fingerprint,
        id: ask.id,
    })
}

/// Why a call fails because of one of its items. `others` failed too.
pub(crate) fn item_failed(
    tensor: &str,
    index: usize,
    code: ItemCode,
    message: &str,
    others: usize,
) -> Status {
    let others = match others {
        0 => String::new(),
        _ => format!(" (and {others} other items failed)"),
    };
    let message = format!("{tensor}[{index}]: {message}{others}");
    match code {
        ItemCode::TooLarge => Error::new(Code::TooLarge, message).into(),
        ItemCode::Internal | ItemCode::Ok => Error::new(Code::Internal, message).into(),
        // Neither the request nor the replica is wrong: they do not suit each other's dtype.
        ItemCode::NotFinite => Status::failed_precondition(message),
        ItemCode::BadImage | ItemCode::Unsupported | ItemCode::Changed => {
            Error::new(Code::BadRequest, message).into()
        }
    }
}

fn check_items(tensor: &str, meta: &ArchivedReplyMeta) -> Result<(), Status> {
    let items = meta.items.iter().enumerate();
    let mut failed = items.filter(|(_, item)| ItemCode::from(item.code) != ItemCode::Ok);
    match failed.next() {
        None => Ok(()),
        Some((index, item)) => {
            let others = failed.count();
            let (code, message) = (item.code.into(), item.message.as_str());
            Err(item_failed(tensor, index, code, message, others))
        }
    }
}

/// One part of each tensor, without the gaps that align them.
fn dense(latents: &Bytes, tensor: usize, items: usize, part: Range<usize>) -> Result<Bytes, Error> {
    let stride = tensor_stride(tensor).ok_or_else(|| {
        let message = format!("a tensor of {tensor} bytes has no stride");
        Error::new(Code::Internal, message)
    })?;
    if part == (0..stride) {
        return Ok(latents.slice(..items * stride));
    }
    let mut dense = Vec::with_capacity(items * part.len());
    for item in latents.chunks(stride).take(items) {
        dense.extend_from_slice(&item[part.clone()]);
    }
    Ok(dense.into())
}

fn describe(ask: &Ask, meta: &ArchivedReplyMeta, output: Output) -> InferOutputTensor {
    let mut shape = vec![ask.items as i64];
    shape.extend(meta.shape.iter().map(|side| i64::from(side.to_native())));
    if ask.posterior == Posterior::Moments {
        shape[1] /= 2;
    }
    let name = match output {
        Output::Latents => "latents",
        Output::Logvar => "logvar",
    };
    let datatype = match ask.dtype {
        DType::F32 => "FP32",
        DType::F16 => "FP16",
        DType::BF16 => "BF16",
    };
    InferOutputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape,
        ..Default::default()
    }
}

fn posterior(posterior: Posterior) -> &'static str {
    match posterior {
        Posterior::Mode => "mode",
        Posterior::Sample => "sample",
        Posterior::Moments => "moments",
    }
}

fn scale(scale: Scale) -> &'static str {
    match scale {
        Scale::Raw => "raw",
        Scale::Normalized => "normalized",
    }
}

fn text(value: &str) -> InferParameter {
    InferParameter {
        parameter_choice: Some(ParameterChoice::StringParam(value.to_owned())),
    }
}
