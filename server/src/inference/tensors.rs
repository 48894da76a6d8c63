//! Input tensors → payloads. Nothing is copied: payloads are slices of the message.

use bytes::Bytes;
use preheat_proto::{
    Code, Error, Source,
    inference::{InferTensorContents, model_infer_request::InferInputTensor},
    limits,
    screen::elements,
};

use crate::service::shorten;

/// The pictures of a call.
#[derive(Debug)]
pub(crate) struct Pictures {
    /// Name of the tensor that held them, for messages.
    pub(crate) tensor: &'static str,
    pub(crate) source: Source,
    /// Frames of each item; 1 for images.
    pub(crate) frames: u32,
    /// Width and height, where the tensor says them.
    pub(crate) size: Option<[u32; 2]>,
    /// `frames` for each item.
    pub(crate) payloads: Vec<Bytes>,
}

impl Pictures {
    /// Reads the one input of a call.
    ///
    /// # Errors
    /// [`Code::BadRequest`] for anything but one of the two inputs, well formed.
    pub(crate) fn read(inputs: &[InferInputTensor], raw: &[Bytes]) -> Result<Self, Error> {
        let [input] = inputs else {
            let names: Vec<_> = inputs
                .iter()
                .map(|input| shorten(&input.name, 32))
                .collect();
            let names = shorten(&names.join(", "), limits::MAX_ITEM_MESSAGE_BYTES).to_owned();
            return Err(bad(format!(
                "the call has {} inputs ({names}): send one, `image` or `pixels`",
                inputs.len()
            )));
        };
        if raw.len() > 1 {
            let entries = raw.len();
            return Err(bad(format!(
                "raw_input_contents has {entries} entries for one input"
            )));
        }
        match (input.name.as_str(), input.datatype.as_str()) {
            ("image", "BYTES") => files(input, raw.first()),
            ("pixels", "UINT8") => pixels(input, raw.first()),
            ("image", other) => Err(datatype("image", other, "BYTES")),
            ("pixels", other) => Err(datatype("pixels", other, "UINT8")),
            (other, _) => Err(bad(format!(
                "unknown input `{}`: send `image` (BYTES, encoded files) or `pixels` (UINT8, RGB)",
                shorten(other, limits::MAX_ITEM_MESSAGE_BYTES)
            ))),
        }
    }
}

fn files(input: &InferInputTensor, raw: Option<&Bytes>) -> Result<Pictures, Error> {
    let (items, frames) = match *input.shape {
        [items] => (items, 1),
        [items, frames] => (items, frames),
        _ => return Err(shape(input, "[N], or [N, frames] for clips")),
    };
    let (frames, count) = counts(input, items, frames)?;
    let payloads = match (raw, &input.contents) {
        (Some(raw), contents) if is_empty(contents.as_ref()) => elements(&input.name, raw)?,
        (None, Some(contents)) => contents.bytes_contents.clone(),
        (None, None) => Vec::new(),
        (Some(_), _) => return Err(twice(input)),
    };
    if payloads.len() != count {
        let (seen, shape) = (payloads.len(), &input.shape);
        return Err(bad(format!(
            "`image` has {seen} elements, but its shape {shape:?} says {count}"
        )));
    }
    Ok(Pictures {
        tensor: "image",
        source: Source::Encoded,
        frames,
        size: None,
        payloads,
    })
}

fn pixels(input: &InferInputTensor, raw: Option<&Bytes>) -> Result<Pictures, Error> {
    let (items, frames, height, width) = match *input.shape {
        [items, height, width, 3] => (items, 1, height, width),
        [items, frames, height, width, 3] => (items, frames, height, width),
        _ => {
            return Err(shape(
                input,
                "[N, height, width, 3], or [N, frames, height, width, 3]",
            ));
        }
    };
    let (frames, count) = counts(input, items, frames)?;
    let side = |name, side: i64| {
        let limit = limits::MAX_SIDE;
        let fits = u32::try_from(side).ok();
        fits.filter(|side| (1..=limit).contains(side))
            .ok_or_else(|| {
                let shape = &input.shape;
                bad(format!(
                    "`pixels` has shape {shape:?}: {name} must be 1..={limit}"
                ))
            })
    };
    let (width, height) = (side("width", width)?, side("height", height)?);
    if !is_empty(input.contents.as_ref()) {
        return Err(match raw {
            Some(_) => twice(input),
            None => bad("send the values of `pixels` in raw_input_contents, one byte each".into()),
        });
    }
    let raw = raw.ok_or_else(|| bad("`pixels` has no values in raw_input_contents".into()))?;
    // At most 2^15 * 2^15 * 3, and 2^12 of those: this fits 64 bits.
    let frame = u64::from(width) * u64::from(height) * 3;
    let wanted = frame * count as u64;
    if raw.len() as u64 != wanted {
        let (seen, shape) = (raw.len(), &input.shape);
        return Err(bad(format!(
            "`pixels` has {seen} bytes, but its shape {shape:?} says {wanted}"
        )));
    }
    let frame = raw.len() / count;
    Ok(Pictures {
        tensor: "pixels",
        source: Source::Rgb8,
        frames,
        size: Some([width, height]),
        payloads: (0..count)
            .map(|i| raw.slice(i * frame..(i + 1) * frame))
            .collect(),
    })
}

/// Frames of an item, and payloads of the call.
fn counts(input: &InferInputTensor, items: i64, frames: i64) -> Result<(u32, usize), Error> {
    let within = |count: i64, limit| {
        usize::try_from(count)
            .ok()
            .filter(|n| (1..=limit).contains(n))
    };
    let (most, longest) = (limits::MAX_ITEMS, limits::MAX_FRAMES as usize);
    let counts = within(items, most).zip(within(frames, longest));
    let counts = counts.filter(|(items, frames)| items * frames <= limits::MAX_PAYLOADS);
    let (items, frames) = counts.ok_or_else(|| {
        let (name, shape, all) = (&input.name, &input.shape, limits::MAX_PAYLOADS);
        bad(format!(
            "`{name}` has shape {shape:?}: a call takes 1..={most} items of 1..={longest} frames, \
             {all} frames in all"
        ))
    })?;
    Ok((frames as u32, items * frames))
}

fn is_empty(contents: Option<&InferTensorContents>) -> bool {
    contents.is_none_or(|contents| *contents == InferTensorContents::default())
}

fn shape(input: &InferInputTensor, takes: &str) -> Error {
    // As many sides as fit a sentence: the list is the caller's.
    let seen = &input.shape[..input.shape.len().min(8)];
    bad(format!(
        "`{}` has shape {seen:?}, must be {takes}",
        input.name
    ))
}

fn datatype(name: &str, seen: &str, wanted: &str) -> Error {
    let seen = shorten(seen, 32);
    bad(format!("`{name}` has datatype `{seen}`, must be {wanted}"))
}

fn twice(input: &InferInputTensor) -> Error {
    bad(format!(
        "`{}` has values in contents and in raw_input_contents: use one of them",
        input.name
    ))
}

fn bad(message: String) -> Error {
    Error::new(Code::BadRequest, message)
}
