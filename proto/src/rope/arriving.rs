//! Receiving a request: its payloads are handed out one by one, while the others are on their way.
//!
//! The message is the plain one that any gRPC library writes. Libraries write fields in the order of
//! their numbers, so what a payload is for has come before it.

use std::{collections::VecDeque, future::poll_fn, pin::Pin};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body as _, Frame};
use prost::{
    DecodeError, Message,
    encoding::{WireType, decode_key, decode_varint},
};
use tonic::{Status, body::Body};

use super::{
    Laden, PREFIX_BYTES,
    frames::{Frames, Resumed},
};
use crate::{
    error::{Code, Error},
    limits,
    v1::EncodeRequest,
};

/// Number of the field `meta`: once it is there, payloads can be made sense of.
const META: u32 = 4;

/// The highest number of a field that must have come before the payloads.
const LAST_SMALL: u32 = 4;

/// Bytes of all fields but the payloads, generously: whatever is only a little too long is refused by
/// name elsewhere.
const MAX_SMALL_BYTES: usize = 4 * limits::MAX_META_BYTES;

/// Bytes of a key and of the length behind it, at most.
const MAX_KEY_BYTES: usize = 20;

/// An [`EncodeRequest`] that is being received.
#[derive(Debug)]
pub struct Arriving {
    /// Read, but not handed out yet.
    frames: Frames,
    /// Nothing where the message was whole from the start.
    body: Option<Body>,
    /// Bytes of the message, and of those not handed out yet.
    length: usize,
    left: usize,
    /// All but the payloads, where the message was whole from the start.
    small: EncodeRequest,
    /// Payloads that came before they could be made sense of.
    early: VecDeque<Bytes>,
    /// Length of the payload that comes next, where that is known.
    next: Option<usize>,
    payloads: usize,
}

/// What the first bytes of a body say.
pub(super) enum Begun {
    /// A message.
    Message(Box<Arriving>),
    /// Something for the codec to make of it what it will: the body, as it was. If it can be no message
    /// either way, why, in words; a codec would blame itself.
    Odd(Body, Option<String>),
}

/// A field, up to its value.
enum Field {
    /// A payload of so many bytes.
    Payload(usize),
    /// Another field, its bytes up to the value, and how many bytes that has.
    Other(u32, Bytes, usize),
}

impl From<EncodeRequest> for Arriving {
    /// One that is all here.
    fn from(mut message: EncodeRequest) -> Self {
        Self {
            frames: Frames::default(),
            body: None,
            length: 0,
            left: 0,
            early: message.unload().into(),
            small: message,
            next: None,
            payloads: 0,
        }
    }
}

impl Arriving {
    /// Reads the prefix of a message.
    pub(super) async fn begin(mut body: Body) -> Begun {
        let mut frames = Frames::default();
        let end = loop {
            if let Some((flag, length)) = frames.prefix() {
                if flag != 0 || length > EncodeRequest::MAX_BYTES {
                    break None;
                }
                frames.advance(PREFIX_BYTES);
                return Begun::Message(Box::new(Self {
                    frames,
                    body: Some(body),
                    length,
                    left: length,
                    small: EncodeRequest::default(),
                    early: VecDeque::new(),
                    next: None,
                    payloads: 0,
                }));
            }
            match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => frames.push(data),
                    Err(trailers) => break Some(Ok(trailers)),
                },
                Some(Err(error)) => break Some(Err(error)),
                None => break None,
            }
        };
        let broken = match end {
            Some(Err(_)) => None,
            _ => broken(&frames),
        };
        Begun::Odd(Resumed::after(frames, end, body), broken)
    }

    /// All but the payloads. To be called once, and first.
    ///
    /// # Errors
    /// Where the message is none, or the body fails.
    pub async fn small(&mut self) -> Result<EncodeRequest, Status> {
        if self.body.is_none() {
            return Ok(std::mem::take(&mut self.small));
        }
        let (mut small, mut has_meta, mut early) = (BytesMut::new(), false, 0);
        while let Some(field) = self.field().await? {
            match field {
                Field::Payload(length) if has_meta => {
                    self.next = Some(length);
                    break;
                }
                Field::Payload(length) => {
                    early += length;
                    if early > limits::MAX_MESSAGE_BYTES {
                        let message = "payloads come before field 4, `meta`: write fields in the \
                                       order of their numbers";
                        return Err(bad(message.to_owned()));
                    }
                    let payload = self.take(length).await?;
                    self.early.push_back(payload);
                }
                Field::Other(number, key, length) => {
                    if small.len() + key.len() + length > MAX_SMALL_BYTES {
                        let message = format!(
                            "the call has more than {MAX_SMALL_BYTES} bytes beside its payloads: send \
                             fewer items"
                        );
                        return Err(Error::new(Code::TooLarge, message).into());
                    }
                    small.extend_from_slice(&key);
                    small.extend_from_slice(&self.take(length).await?);
                    has_meta |= number == META;
                }
            }
        }
        let small = EncodeRequest::decode(small.freeze());
        small.map_err(not_protobuf)
    }

    /// The next payload, as soon as it is there; nothing once the message has ended as it should.
    ///
    /// # Errors
    /// Where the message goes on or breaks off, or the body fails.
    pub async fn payload(&mut self) -> Result<Option<Bytes>, Status> {
        if let Some(payload) = self.early.pop_front() {
            return Ok(Some(payload));
        }
        let length = match self.next.take() {
            Some(length) => length,
            None => loop {
                match self.field().await? {
                    None => return self.end().await.map(|()| None),
                    Some(Field::Payload(length)) => break length,
                    Some(Field::Other(number @ 1..=LAST_SMALL, ..)) => {
                        return Err(bad(format!(
                            "field {number} comes after payloads: write fields in the order of their \
                             numbers"
                        )));
                    }
                    Some(Field::Other(_, _, length)) => self.skip(length).await?,
                }
            },
        };
        self.take(length).await.map(Some)
    }

    /// The whole message.
    ///
    /// # Errors
    /// As for [`Self::small`] and [`Self::payload`].
    pub async fn whole(mut self) -> Result<EncodeRequest, Status> {
        let mut message = self.small().await?;
        while let Some(payload) = self.payload().await? {
            message.payloads.push(payload);
        }
        Ok(message)
    }

    /// Reads up to the value of the next field.
    async fn field(&mut self) -> Result<Option<Field>, Status> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            let mut bytes = [0; MAX_KEY_BYTES];
            let most = self.left.min(MAX_KEY_BYTES);
            let seen = self.frames.peek(&mut bytes[..most]);
            let mut rest = seen;
            match start(&mut rest) {
                Ok((_, WireType::StartGroup | WireType::EndGroup, _)) => {
                    // Of an older protobuf; this protocol has none.
                    let message = "the message is not valid protobuf: it holds a group";
                    return Err(bad(message.to_owned()));
                }
                Ok((number, kind, length)) => {
                    let key = seen.len() - rest.len();
                    self.left -= key;
                    let key = self.frames.copy_to_bytes(key);
                    if length > self.left {
                        let message = "the message is not valid protobuf: it ends within a field";
                        return Err(bad(message.to_owned()));
                    }
                    if number != EncodeRequest::FIELD || kind != WireType::LengthDelimited {
                        return Ok(Some(Field::Other(number, key, length)));
                    }
                    self.payloads += 1;
                    if self.payloads > limits::MAX_PAYLOADS {
                        let limit = limits::MAX_PAYLOADS;
                        let message =
                            format!("the call has more than {limit} payloads: send fewer");
                        return Err(Error::new(Code::TooLarge, message).into());
                    }
                    if length > limits::MAX_PAYLOAD_BYTES {
                        let limit = limits::MAX_PAYLOAD_BYTES;
                        let message = format!(
                            "a payload has {length} bytes, over {limit}: send smaller files, or the \
                             frames of a video"
                        );
                        return Err(Error::new(Code::TooLarge, message).into());
                    }
                    return Ok(Some(Field::Payload(length)));
                }
                Err(error) if seen.len() == most => return Err(not_protobuf(error)),
                // The rest of it may come yet.
                Err(_) => self.fill(seen.len() + 1).await?,
            }
        }
    }

    /// So many bytes of the message.
    async fn take(&mut self, length: usize) -> Result<Bytes, Status> {
        self.fill(length).await?;
        self.left -= length;
        Ok(self.frames.copy_to_bytes(length))
    }

    async fn skip(&mut self, mut length: usize) -> Result<(), Status> {
        while length > 0 {
            self.fill(1).await?;
            let some = length.min(self.frames.remaining());
            self.frames.advance(some);
            self.left -= some;
            length -= some;
        }
        Ok(())
    }

    /// Waits until so many bytes are there.
    async fn fill(&mut self, bytes: usize) -> Result<(), Status> {
        while self.frames.remaining() < bytes {
            let Some(data) = self.read().await? else {
                let seen = self.length - self.left + self.frames.remaining();
                let length = self.length;
                return Err(bad(format!(
                    "the request ends after {seen} of {length} bytes of its message"
                )));
            };
            self.frames.push(data);
        }
        Ok(())
    }

    /// Waits for the end of the body, of which the message must be all.
    async fn end(&mut self) -> Result<(), Status> {
        loop {
            if self.frames.has_remaining() {
                let length = self.length;
                return Err(bad(format!(
                    "the request goes on after the {length} bytes of its message: a call carries one"
                )));
            }
            match self.read().await? {
                Some(data) => self.frames.push(data),
                None => return Ok(()),
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(body) = self.body.as_mut() else {
            return Ok(None);
        };
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        let data = frame.transpose()?.map(Frame::into_data);
        // Trailers say nothing here, and nothing follows them.
        Ok(data.and_then(Result::ok))
    }
}

/// Number and kind of a field, and how many bytes its value has.
fn start(bytes: &mut &[u8]) -> Result<(u32, WireType, usize), DecodeError> {
    let (number, kind) = decode_key(bytes)?;
    let length = match kind {
        WireType::LengthDelimited => usize::try_from(decode_varint(bytes)?).unwrap_or(usize::MAX),
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::Varint => {
            let mut value = *bytes;
            decode_varint(&mut value)?;
            bytes.len() - value.len()
        }
        // Refused by whoever asks.
        WireType::StartGroup | WireType::EndGroup => 0,
    };
    Ok((number, kind, length))
}

/// What is wrong with the prefix of a message. What is only too long is left to the codec.
fn broken(frames: &Frames) -> Option<String> {
    let flag = frames.peek(&mut [0]).first().copied();
    let seen = frames.remaining();
    match flag {
        None => Some("the request holds no message".to_owned()),
        Some(1) => {
            Some("the message is marked as compressed, but no `grpc-encoding` says how".to_owned())
        }
        Some(flag @ 2..) => Some(format!(
            "the byte before the message, whether it is compressed, is {flag}: write 0"
        )),
        Some(0) if seen < PREFIX_BYTES => Some(format!(
            "the request ends after {seen} of the {PREFIX_BYTES} bytes before its message"
        )),
        Some(0) => None,
    }
}

fn not_protobuf(error: DecodeError) -> Status {
    bad(format!("the message is not valid protobuf: {error}"))
}

fn bad(message: String) -> Status {
    Error::new(Code::BadRequest, message).into()
}

#[cfg(test)]
mod tests;
