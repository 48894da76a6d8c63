//! Messages whose payloads are not copied on their way out, and at most once on their way in.
//!
//! A codec writes the whole message into one buffer, and the bytes are the same if the small fields
//! are written and the payloads follow them as the pieces that they are. On the other side a payload
//! that came in one frame is a slice of it; one that came in several is put together once. Those of a
//! request are handed out as they come ([`Arriving`]), so that work on the first does not wait for the
//! last.
//!
//! Messages travel past the codec in the extensions of requests and responses: the stubs of tonic
//! encode and decode empty ones, and [`Caller`] and [`Answerer`] exchange them for the real ones.
//! Headers, codes, deadlines and whatever is out of the ordinary stay with tonic, and a peer sees
//! nothing but gRPC.

mod arriving;
mod frames;
mod gather;
#[cfg(test)]
mod sent;
mod stubs;

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use tonic::Status;

pub use self::{
    arriving::Arriving,
    stubs::{Answerer, Caller, arriving, received, request, response},
};
use crate::{
    limits,
    v1::{EncodeRequest, EncodeResponse},
};

/// Payloads shorter than this are copied after all: a frame of their own costs both sides more.
const COPY_BELOW: usize = 32 * 1024;

/// Bytes copied at a time. Copies of more than two kilobytes may become one string instruction, and
/// common processors run it ten times slower where the two places lie alike in their pages, which
/// payloads and frames, both a few bytes past the start of a page, tend to do.
const COPY: usize = 1024;

/// Before every message: a flag (compressed or not) and its length.
const PREFIX_BYTES: usize = 5;

/// An empty message, prefix included.
const EMPTY: &[u8] = &[0; PREFIX_BYTES];

/// A message with payloads in its last field, which is of type `bytes`, repeated or not.
pub trait Laden: Message + Default + Clone + 'static {
    /// Number of that field.
    const FIELD: u32;

    /// Bytes that it may have.
    const MAX_BYTES: usize;

    /// Empties that field.
    fn unload(&mut self) -> Vec<Bytes>;
}

impl Laden for EncodeRequest {
    const FIELD: u32 = 16;
    const MAX_BYTES: usize = limits::MAX_REQUEST_BYTES;

    fn unload(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.payloads)
    }
}

impl Laden for EncodeResponse {
    const FIELD: u32 = 16;
    const MAX_BYTES: usize = limits::MAX_MESSAGE_BYTES;

    fn unload(&mut self) -> Vec<Bytes> {
        let latents = std::mem::take(&mut self.latents);
        // A single field that is empty is not sent at all.
        if latents.is_empty() {
            Vec::new()
        } else {
            vec![latents]
        }
    }
}

/// An encoded message, prefix included, in pieces.
#[derive(Clone, Debug)]
pub struct Rope {
    /// In reverse, so that the first can be taken from the end.
    pieces: Vec<Bytes>,
}

impl Rope {
    /// Encodes all but the payloads.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` past [`Laden::MAX_BYTES`].
    pub fn new<M: Laden>(mut message: M) -> Result<Self, Status> {
        let payloads = message.unload();
        let key = key_len(M::FIELD);
        let load: usize = payloads
            .iter()
            .map(|one| key + encoded_len_varint(one.len() as u64) + one.len())
            .sum();
        let small = message.encoded_len();
        let length = small + load;
        if length > M::MAX_BYTES {
            let limit = M::MAX_BYTES;
            return Err(Status::out_of_range(format!(
                "a message of {length} bytes is over the limit of {limit}: send fewer items"
            )));
        }
        let heads = (key + PREFIX_BYTES) * payloads.len();
        let copied = payloads.iter().map(Bytes::len).filter(|&n| n < COPY_BELOW);
        let copied: usize = copied.sum();
        let mut head = BytesMut::with_capacity(PREFIX_BYTES + small + heads + copied);
        head.put_u8(0);
        head.put_u32(length as u32);
        message.encode_raw(&mut head);
        let mut pieces = Vec::with_capacity(2 * payloads.len() + 1);
        for payload in payloads {
            encode_key(M::FIELD, WireType::LengthDelimited, &mut head);
            encode_varint(payload.len() as u64, &mut head);
            if payload.len() < COPY_BELOW {
                append(&mut head, &payload);
            } else {
                pieces.push(head.split().freeze());
                pieces.push(payload);
            }
        }
        if !head.is_empty() {
            pieces.push(head.freeze());
        }
        pieces.reverse();
        Ok(Self { pieces })
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter().rev()
    }
}

/// A copy of `bytes`, at the end of `buffer`.
fn append(buffer: &mut BytesMut, bytes: &[u8]) {
    for piece in bytes.chunks(COPY) {
        buffer.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(rope: &Rope) -> Vec<u8> {
        rope.pieces().flat_map(|piece| piece.to_vec()).collect()
    }

    /// What a codec would have sent.
    fn plain(message: &impl Message) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.put_u32(message.encoded_len() as u32);
        bytes.put(&*message.encode_to_vec());
        bytes
    }

    fn payload(length: usize) -> Bytes {
        (0..length).map(|index| index as u8).collect()
    }

    proptest! {
        #[test]
        fn a_rope_is_the_message(
            model in ".{0,40}",
            meta in 0_usize..400,
            payloads in prop::collection::vec(
                prop_oneof![0_usize..300, COPY_BELOW - 2..COPY_BELOW + 2, 20_000_usize..40_000],
                0..6,
            ),
        ) {
            let request = EncodeRequest {
                meta_version: 1,
                model,
                meta: payload(meta),
                payloads: payloads.iter().map(|&length| payload(length)).collect(),
                ..EncodeRequest::default()
            };
            prop_assert_eq!(joined(&Rope::new(request.clone()).unwrap()), plain(&request));
            let response = EncodeResponse {
                meta_version: 1,
                latents: request.payloads.first().cloned().unwrap_or_default(),
                ..EncodeResponse::default()
            };
            prop_assert_eq!(joined(&Rope::new(response.clone()).unwrap()), plain(&response));
        }
    }

    #[test]
    fn large_payloads_are_not_copied() {
        let latents = payload(COPY_BELOW);
        let response = EncodeResponse {
            latents: latents.clone(),
            ..EncodeResponse::default()
        };
        let rope = Rope::new(response).unwrap();
        assert!(
            rope.pieces()
                .any(|piece| piece.as_ptr() == latents.as_ptr())
        );
    }

    #[test]
    fn a_message_past_the_limit_is_refused() {
        let half = payload(limits::MAX_PAYLOAD_BYTES / 2);
        let request = EncodeRequest {
            payloads: vec![half; 2 * limits::MAX_REQUEST_BYTES / limits::MAX_PAYLOAD_BYTES],
            ..EncodeRequest::default()
        };
        let status = Rope::new(request).unwrap_err();
        assert_eq!(status.code(), tonic::Code::OutOfRange);
    }
}
