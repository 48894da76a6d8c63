//! Bytes of strangers, looked at before they are parsed; and the elements of a raw tensor.
//!
//! A parsed field can take a hundred times its bytes: two bytes are an empty tensor, a message of
//! 64 MiB could be 30 million of them. In the native protocol only payloads are repeated, so they are
//! counted; all else is in one archive of bounded size. The open protocol cannot do that, so there the
//! same bound is held by counting twice: the bytes that are not payload, and the payloads.

use std::{any::TypeId, marker::PhantomData};

use bytes::{Buf, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, decode_key, skip_field},
};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};

use crate::{
    error::{Code, Error},
    inference::ModelInferRequest,
    limits,
    rope::Laden as _,
    v1::EncodeRequest,
};

/// Where payloads lie in a [`ModelInferRequest`]: `raw_input_contents`, and
/// `inputs.contents.bytes_contents`.
const PAYLOADS: [&[usize]; 2] = [&[7], &[5, 5, 8]];

/// Decodes as prost does, after [`outline`] has seen every [`ModelInferRequest`] and [`few`] every
/// [`EncodeRequest`].
#[derive(Clone, Debug)]
pub struct ScreenedCodec<T, U>(PhantomData<fn() -> (T, U)>);

/// See [`ScreenedCodec`].
#[derive(Clone, Debug)]
pub struct ScreenedDecoder<U>(PhantomData<fn() -> U>);

impl<T, U> Default for ScreenedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for ScreenedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ScreenedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        ScreenedDecoder(PhantomData)
    }
}

impl<U: Message + Default + 'static> Decoder for ScreenedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Shares the buffer: nothing is copied here, and fields of bytes are slices of it.
        let message = buf.copy_to_bytes(buf.remaining());
        if TypeId::of::<U>() == TypeId::of::<ModelInferRequest>() {
            outline(&message)?;
        }
        if TypeId::of::<U>() == TypeId::of::<EncodeRequest>() {
            few(EncodeRequest::FIELD, message.clone())?;
        }
        let item = U::decode(message);
        item.map(Some).map_err(|error| not_protobuf(error).into())
    }
}

/// Counts what a message holds, without building any of it.
///
/// # Errors
/// [`Code::TooLarge`] for more than [`limits::MAX_PAYLOADS`] payloads or more than
/// [`limits::MAX_META_BYTES`] of anything else; [`Code::BadRequest`] where it is not protobuf.
pub fn outline(message: &[u8]) -> Result<(), Error> {
    let mut counted = Counted::default();
    counted.fields(message, &mut Vec::with_capacity(3))?;
    check(counted.payloads)?;
    let (seen, limit) = (counted.rest, limits::MAX_META_BYTES);
    if seen > limit {
        let message = format!(
            "the call has {seen} bytes beside raw_input_contents and bytes_contents, over {limit}: \
             send tensors raw"
        );
        return Err(Error::new(Code::TooLarge, message));
    }
    Ok(())
}

/// Counts how often the field of payloads comes in a message, without building any of it.
///
/// # Errors
/// [`Code::TooLarge`] for more than [`limits::MAX_PAYLOADS`]; [`Code::BadRequest`] where it is not
/// protobuf.
pub fn few(field: u32, mut message: impl Buf) -> Result<(), Error> {
    let mut payloads = 0;
    while message.has_remaining() {
        let (number, kind) = decode_key(&mut message).map_err(not_protobuf)?;
        skip_field(kind, number, &mut message, DecodeContext::default()).map_err(not_protobuf)?;
        payloads += usize::from(number == field && kind == WireType::LengthDelimited);
    }
    check(payloads)
}

fn check(payloads: usize) -> Result<(), Error> {
    let limit = limits::MAX_PAYLOADS;
    if payloads <= limit {
        return Ok(());
    }
    let message = format!("the call has {payloads} payloads, over {limit}: send fewer items");
    Err(Error::new(Code::TooLarge, message))
}

/// Cuts a raw tensor of BYTES into its elements, which share its memory. `name` is for messages.
///
/// # Errors
/// [`Code::BadRequest`] where lengths do not add up, or for more than [`limits::MAX_PAYLOADS`].
pub fn elements(name: &str, raw: &Bytes) -> Result<Vec<Bytes>, Error> {
    let layout = "in raw_input_contents each element is its length in 4 bytes, little-endian, and \
                  then its bytes";
    let mut left = raw.clone();
    let mut elements = Vec::new();
    while !left.is_empty() {
        let index = elements.len();
        // Before a swarm of empty elements takes memory.
        if index == limits::MAX_PAYLOADS {
            return Err(bad(format!("`{name}` has more than {index} elements")));
        }
        let length = left.try_get_u32_le().map_err(|_| {
            bad(format!(
                "`{name}` ends within the length of element {index}: {layout}"
            ))
        })? as usize;
        if length > left.len() {
            let rest = left.len();
            return Err(bad(format!(
                "element {index} of `{name}` claims {length} bytes, but {rest} are left: {layout}"
            )));
        }
        elements.push(left.split_to(length));
    }
    Ok(elements)
}

#[derive(Default)]
struct Counted {
    payloads: usize,
    rest: usize,
}

impl Counted {
    /// `path` holds the numbers of the fields around this message.
    fn fields(&mut self, mut message: &[u8], path: &mut Vec<usize>) -> Result<(), Error> {
        while !message.is_empty() {
            let before = message.len();
            let key = varint(&mut message)?;
            path.push(key >> 3);
            let mut payload = 0;
            match key & 7 {
                0 => drop(varint(&mut message)?),
                1 => drop(take(&mut message, 8)?),
                2 => {
                    let length = varint(&mut message)?;
                    let value = take(&mut message, length)?;
                    if PAYLOADS.contains(&path.as_slice()) {
                        self.payloads += 1;
                        payload = length;
                    } else if PAYLOADS.iter().any(|known| known.starts_with(path)) {
                        self.fields(value, path)?;
                        // Counted there.
                        payload = length;
                    }
                }
                5 => drop(take(&mut message, 4)?),
                // Groups are of an older protobuf; this protocol has none.
                _ => return Err(bad("the message is not valid protobuf".into())),
            }
            path.pop();
            self.rest += before - message.len() - payload;
        }
        Ok(())
    }
}

fn varint(bytes: &mut &[u8]) -> Result<usize, Error> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Ok(usize::try_from(value).unwrap_or(usize::MAX));
        }
    }
    Err(bad(
        "the message is not valid protobuf: a number does not end".into(),
    ))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Error> {
    bytes
        .split_off(..count)
        .ok_or_else(|| bad("the message is not valid protobuf: it ends within a field".into()))
}

fn not_protobuf(error: DecodeError) -> Error {
    bad(format!("the message is not valid protobuf: {error}"))
}

fn bad(message: String) -> Error {
    Error::new(Code::BadRequest, message)
}
