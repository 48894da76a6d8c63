//! What a call asks of the balancer: from its headers, or, for callers that send none, from the
//! first fields of its message and from sensible defaults.

use std::{net::SocketAddr, time::Duration};

use bytes::Buf;
use http::HeaderMap;
use preheat_proto::{Code, Error as CallError, headers as names, limits};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tokio::time::{Instant, timeout};

use super::{
    call::{Inner, Method},
    headers::{number, text},
    seam::{Asked, Serving},
};

/// A caller that does not say when it needs the answer, nor when it gives up, is served as if it
/// had said this: as replicas do.
const NEEDED_IN: Duration = Duration::from_secs(10);
/// Nobody plans further ahead.
const LONGEST_NEEDED_IN: Duration = Duration::from_secs(3600);
/// What a call costs whose caller does not say, while its body is not known either: one photo of
/// the common training size.
const PIXELS: u64 = 1024 * 1024;
/// Once the body is known: a photo has about two bits for every pixel.
const PIXELS_PER_BYTE: u64 = 4;
/// Trainers may differ so much in weight, at most.
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.001..=1000.0;
/// Bytes of a trainer's name, at most: it is shown, and names a metric.
const MAX_NAME: usize = 128;
/// Names come in the first bytes of a message; a caller that has not said them by then has put
/// something else first.
const PEEK_BYTES: usize = 8 * 1024;
/// How long they may take to come: a call holds a place by having sent none. Longer than a network
/// takes to recover, shorter than anybody waits.
const PEEK_TIME: Duration = Duration::from_secs(30);
/// Digits of a fingerprint that pin it, in the Open Inference Protocol.
const FEWEST_DIGITS: usize = 8;
/// Bytes before a message: a flag (compressed or not) and its length.
const PREFIX: usize = 5;

/// What a message says at its start.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Named {
    pub(super) model: String,
    pub(super) fingerprint: String,
}

/// What this call asks for. An empty model means that neither headers nor message name one.
///
/// # Errors
/// Headers that make no sense, or a body that does not come.
pub(super) async fn ask(
    call: &Inner,
    from: SocketAddr,
    serving: &Serving,
) -> Result<Asked, CallError> {
    let headers = &call.headers;
    let Named { model, fingerprint } = match text(headers, names::MODEL) {
        Some(model) => Named {
            model: model.to_owned(),
            fingerprint: text(headers, names::FINGERPRINT).unwrap_or("").to_owned(),
        },
        None => named(call, serving).await?,
    };
    let left = call
        .deadline
        .map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let needed = number(headers, names::NEEDED_IN_MS).map(Duration::from_millis);
    let guess = || match call.body.whole() {
        Some(bytes) => (bytes * PIXELS_PER_BYTE).clamp(1, limits::MAX_OUTPUT_PIXELS),
        None => PIXELS,
    };
    let weight = number(headers, names::WEIGHT).unwrap_or(1.0_f64);
    let weight = if weight.is_finite() { weight } else { 1.0 };
    let trainer = text(headers, names::TRAINER).filter(|name| name.len() <= MAX_NAME);
    let needed_in = needed.or(left).unwrap_or(NEEDED_IN);
    let needed_in = needed_in.min(LONGEST_NEEDED_IN);
    // Nobody else sets it.
    let _ = call.needed_at.set(Instant::now() + needed_in);
    Ok(Asked {
        model,
        fingerprint,
        trainer: trainer.map_or_else(|| from.ip().to_string(), str::to_owned),
        weight: weight.clamp(*WEIGHTS.start(), *WEIGHTS.end()),
        pixels: cost(headers)?.unwrap_or_else(guess),
        needed_in,
        ready: number(headers, names::READY),
    })
}

/// The cost, if it is said. As replicas do: what cannot be read is refused, and not guessed.
fn cost(headers: &HeaderMap) -> Result<Option<u64>, CallError> {
    let name = names::COST_PIXELS;
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    number(headers, name).map(Some).ok_or_else(|| {
        let message = format!("header {name} is {value:?}, must be a decimal number");
        CallError::new(Code::BadRequest, message)
    })
}

/// What the message says at its start.
pub(super) async fn named(call: &Inner, serving: &Serving) -> Result<Named, CallError> {
    let fields = match call.method {
        Method::Encode => [2, 3],
        _ => [1, 2],
    };
    let look = |head: &[u8], all: bool| parse(head, fields, all);
    let Ok(named) = timeout(PEEK_TIME, call.body.peek(PEEK_BYTES, look)).await else {
        let message = format!("the request did not begin within {PEEK_TIME:?}: send it again");
        return Err(CallError::new(Code::Deadline, message));
    };
    if let Some(error) = call.body.broken() {
        return Err(error);
    }
    let mut named = named.unwrap_or_default();
    if call.method != Method::Encode {
        complete(&mut named, serving);
    }
    Ok(named)
}

/// The open protocol lets callers pin the first digits of a fingerprint.
fn complete(named: &mut Named, serving: &Serving) {
    let digits = named.fingerprint.clone();
    if digits.len() < FEWEST_DIGITS {
        named.fingerprint.clear();
        return;
    }
    let models = serving.iter().flat_map(|info| &info.models);
    let mut all = models
        .filter(|model| model.name == named.model)
        .flat_map(|model| {
            [&model.fingerprint]
                .into_iter()
                .chain(&model.older_fingerprints)
        });
    if let Some(whole) = all.find(|whole| whole.starts_with(&digits)) {
        named.fingerprint.clone_from(whole);
    }
}

/// The strings in these two fields, which come before all larger numbers by convention. `None`:
/// more bytes are needed. `all`: there are none.
fn parse(head: &[u8], fields: [u32; 2], all: bool) -> Option<Named> {
    let mut named = Named::default();
    let Some((&[flag, ..], mut rest)) = head.split_first_chunk::<PREFIX>() else {
        return all.then_some(named);
    };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if flag != 0 {
        // Compressed, or no message: a replica will say what it thinks of it.
        return Some(named);
    }
    let is_whole = rest.len() >= length;
    rest = &rest[..rest.len().min(length)];
    loop {
        if rest.is_empty() {
            return (is_whole || all).then_some(named);
        }
        match field(&mut rest, fields, &mut named) {
            Some(number) if number < fields[1] => {}
            Some(_) => return Some(named),
            // Cut off, or no message.
            None => return (is_whole || all).then_some(named),
        }
    }
}

/// Reads one field; its number.
fn field(rest: &mut &[u8], fields: [u32; 2], named: &mut Named) -> Option<u32> {
    let (number, kind) = decode_key(rest).ok()?;
    let into = match (number, kind) {
        (number, WireType::LengthDelimited) if number == fields[0] => &mut named.model,
        (number, WireType::LengthDelimited) if number == fields[1] => &mut named.fingerprint,
        (number, _) if number > fields[1] => return Some(number),
        _ => {
            skip_field(kind, number, rest, DecodeContext::default()).ok()?;
            return Some(number);
        }
    };
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    let bytes = rest.get(..length)?;
    *into = std::str::from_utf8(bytes).unwrap_or_default().to_owned();
    rest.advance(length);
    Some(number)
}

#[cfg(test)]
mod tests {
    use preheat_proto::{inference::ModelInferRequest, v1::EncodeRequest};
    use prost::Message;

    use super::*;

    fn framed(message: &impl Message) -> Vec<u8> {
        let body = message.encode_to_vec();
        let mut bytes = vec![0];
        bytes.extend((body.len() as u32).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn named(model: &str, fingerprint: &str) -> Named {
        Named {
            model: model.to_owned(),
            fingerprint: fingerprint.to_owned(),
        }
    }

    #[test]
    fn names_are_read_as_soon_as_they_are_there() {
        let encode = EncodeRequest {
            meta_version: 300,
            model: "vae".into(),
            fingerprint: "0123".into(),
            payloads: vec![vec![7; 1000].into()],
            ..EncodeRequest::default()
        };
        let infer = ModelInferRequest {
            model_name: "vae".into(),
            model_version: "0123".into(),
            ..ModelInferRequest::default()
        };
        for (bytes, fields) in [(framed(&encode), [2, 3]), (framed(&infer), [1, 2])] {
            let mut known = 0;
            for cut in 0..bytes.len() {
                match parse(&bytes[..cut], fields, false) {
                    Some(seen) => assert_eq!(seen, named("vae", "0123"), "{cut}"),
                    None => known = cut + 1,
                }
            }
            assert!(known < 25, "{known}");
        }
    }

    #[test]
    fn messages_without_names_are_known_at_their_end() {
        let unpinned = EncodeRequest {
            model: "vae".into(),
            ..EncodeRequest::default()
        };
        let whole = framed(&unpinned);
        assert_eq!(parse(&whole, [2, 3], false), Some(named("vae", "")));
        assert_eq!(
            parse(&framed(&EncodeRequest::default()), [2, 3], false),
            Some(named("", ""))
        );
        for garbage in [
            &b"\x01\0\0\0\x05hello"[..],
            b"\0\0\0\0\x05\xff\xff\xff\xff\xff",
            b"\0\0",
        ] {
            assert_eq!(parse(garbage, [2, 3], true), Some(named("", "")));
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            proptest::prop_assert!(parse(&bytes, [2, 3], true).is_some());
        }
    }
}
