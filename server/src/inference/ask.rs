//! A call of the open protocol → the same call in the native one.

use preheat_models::{Spec, image};
use preheat_proto::{
    Code, DType, Error, ItemCode, ItemMeta, META_VERSION, Posterior, RequestMeta, Scale,
    batch::archive,
    inference::{
        ModelInferRequest, infer_parameter::ParameterChoice,
        model_infer_request::InferRequestedOutputTensor,
    },
    limits, v1,
};
use tonic::Status;

use super::{
    parameters::{Cut, Parameters},
    reply::item_failed,
    tensors::Pictures,
};
use crate::{engine::Fault, service::shorten};

/// Tensors of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// What the posterior gives: the mean, for moments.
    Latents,
    /// The log-variance; with moments only.
    Logvar,
}

/// What the answer to a call must know of it.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) id: String,
    pub(crate) model: String,
    /// Name of the input tensor.
    pub(crate) tensor: &'static str,
    pub(crate) items: usize,
    pub(crate) dtype: DType,
    pub(crate) posterior: Posterior,
    pub(crate) scale: Scale,
    /// In the order in which they were asked for.
    pub(crate) outputs: Vec<Output>,
}

impl Ask {
    /// Translates a call. Headers of pictures are read, for their sizes; nothing is decoded.
    ///
    /// # Errors
    /// What is wrong with it, or with the first picture that is no picture.
    pub(crate) fn read(
        request: ModelInferRequest,
        spec: &Spec,
        max_source_pixels: u64,
    ) -> Result<(Self, v1::EncodeRequest), Status> {
        let pictures = Pictures::read(&request.inputs, &request.raw_input_contents)?;
        let of_input = &request.inputs[0].parameters;
        let parameters = Parameters::read(&request.parameters, of_input)?;
        let outputs = outputs(&request.outputs, parameters.posterior)?;
        let meta = plan(&pictures, &parameters, spec, max_source_pixels)?;
        let ask = Self {
            id: request.id,
            model: request.model_name.clone(),
            tensor: pictures.tensor,
            items: meta.items.len(),
            dtype: meta.dtype,
            posterior: meta.posterior,
            scale: meta.scale,
            outputs,
        };
        let native = v1::EncodeRequest {
            meta_version: META_VERSION,
            model: request.model_name,
            // The one that was checked, so that a change of weights meanwhile changes nothing.
            fingerprint: spec.fingerprint.to_string(),
            meta: archive(&meta)?,
            payloads: pictures.payloads,
        };
        Ok((ask, native))
    }
}

fn plan(
    pictures: &Pictures,
    parameters: &Parameters,
    spec: &Spec,
    max_source_pixels: u64,
) -> Result<RequestMeta, Status> {
    let multiple = u32::try_from(spec.size_multiple).unwrap_or(u32::MAX).max(1);
    let tensor = pictures.tensor;
    let mut meta = RequestMeta {
        width: 0,
        height: 0,
        frames: pictures.frames,
        dtype: parameters.dtype,
        posterior: parameters.posterior,
        scale: parameters.scale,
        items: Vec::new(),
    };
    for (index, frames) in pictures
        .payloads
        .chunks(pictures.frames as usize)
        .enumerate()
    {
        let of_item = |error: Error| {
            let message = format!("{tensor}[{index}]: {}", error.message);
            Error::new(error.code, message)
        };
        let source = match pictures.size {
            Some(size) => size,
            None => probe(frames, max_source_pixels).map_err(|fault| {
                let code = ItemCode::from(fault.kind);
                item_failed(tensor, index, code, &fault.message, 0)
            })?,
        };
        let cut = parameters.cut(source, multiple).map_err(of_item)?;
        let [width, height] = cut.size;
        if index > 0 && [width, height] != [meta.width, meta.height] {
            return Err(of_item(bad(format!(
                "would come out of {width}x{height}, but {tensor}[0] of {}x{}: all outputs of a \
                 call have one size, so set `width` and `height`, or call once for each size",
                meta.width, meta.height
            )))
            .into());
        }
        [meta.width, meta.height] = [width, height];
        meta.items
            .push(item(index, source, &cut, parameters, pictures));
    }
    Ok(meta)
}

fn item(
    index: usize,
    source: [u32; 2],
    cut: &Cut,
    parameters: &Parameters,
    pictures: &Pictures,
) -> ItemMeta {
    ItemMeta {
        id: index as u64,
        // One seed for all would give siblings the same noise.
        seed: parameters.seed.wrapping_add(index as u64),
        source_width: source[0],
        source_height: source[1],
        resize_width: cut.resize[0],
        resize_height: cut.resize[1],
        crop_x: cut.crop[0],
        crop_y: cut.crop[1],
        payloads: pictures.frames,
        source: pictures.source,
        filter: parameters.filter,
        flip: parameters.flip,
        times: Vec::new(),
    }
}

/// The one size of all frames of an item.
fn probe(frames: &[bytes::Bytes], max_pixels: u64) -> Result<[u32; 2], Fault> {
    let mut size = None;
    for (index, frame) in frames.iter().enumerate() {
        let header = image::probe(frame, max_pixels)?;
        let seen = [header.width, header.height];
        let [width, height] = *size.get_or_insert(seen);
        if seen != [width, height] {
            return Err(Fault::new(
                crate::engine::FaultKind::BadImage,
                format!(
                    "frame {index} is {}x{}, but frame 0 is {width}x{height}: frames of a clip have \
                     one size",
                    seen[0], seen[1]
                ),
            ));
        }
    }
    Ok(size.unwrap_or_default())
}

fn outputs(
    requested: &[InferRequestedOutputTensor],
    posterior: Posterior,
) -> Result<Vec<Output>, Error> {
    let moments = posterior == Posterior::Moments;
    if requested.is_empty() {
        let all = [Output::Latents, Output::Logvar];
        return Ok(all[..if moments { 2 } else { 1 }].into());
    }
    let mut outputs = Vec::new();
    for InferRequestedOutputTensor { name, parameters } in requested {
        let output = match name.as_str() {
            "latents" => Output::Latents,
            "logvar" if moments => Output::Logvar,
            "logvar" => {
                let message = "output `logvar` needs the parameter posterior, set to `moments`";
                return Err(bad(message.into()));
            }
            other => {
                let other = shorten(other, limits::MAX_ITEM_MESSAGE_BYTES);
                return Err(bad(format!(
                    "unknown output `{other}`: there are `latents`, and `logvar` with moments"
                )));
            }
        };
        if outputs.contains(&output) {
            return Err(bad(format!("output `{name}` is asked for twice")));
        }
        for (key, value) in parameters {
            // Answers are always raw, which is what this one asks for.
            let raw = value.parameter_choice == Some(ParameterChoice::BoolParam(true));
            if key != "binary_data" || !raw {
                let key = shorten(key, 64);
                return Err(bad(format!(
                    "output `{name}` has parameter `{key}`, which is not served: outputs come whole, \
                     in raw_output_contents"
                )));
            }
        }
        outputs.push(output);
    }
    Ok(outputs)
}

fn bad(message: String) -> Error {
    Error::new(Code::BadRequest, message)
}
