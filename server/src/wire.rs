//! HTTP/2 as a replica speaks it, and how its answers leave without being copied.

use std::{convert::Infallible, time::Duration};

use futures::Stream;
use preheat_proto::{
    limits, rope,
    v1::encoder_server::{Encoder, EncoderServer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tonic::transport::server::{Connected, Server};

use crate::listen;

/// Bytes that a peer may send on one stream before the handler reads them.
const STREAM_WINDOW: u32 = 16 << 20;
/// The same for a whole connection: the memory that one connection can hold.
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// Each frame costs system calls and wake-ups, and a payload that comes in one frame is not copied
/// any more: room for any photo. One frame holds up its connection, so no more than that.
const MAX_FRAME: u32 = 8 << 20;
/// Streams that one connection may have open.
const MAX_STREAMS: u32 = 128;
/// A peer that is silent for so long is asked for a sign of life, and then has so long to give it.
const KEEPALIVE: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(20)];

/// The transport of a replica, without services.
pub fn transport() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE[0]))
        .http2_keepalive_timeout(Some(KEEPALIVE[1]))
}

/// Its connections, in plain text.
pub fn incoming(
    listener: TcpListener,
) -> impl Stream<Item = Result<impl Connected + AsyncRead + AsyncWrite + Unpin, Infallible>> {
    listen::incoming(listener, None)
}

/// The service `preheat.v1.Encoder` over `handlers`, which answer with [`rope::response`].
pub fn encoder<T: Encoder>(handlers: T) -> rope::Answerer<EncoderServer<T>> {
    let service = EncoderServer::new(handlers)
        .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(limits::MAX_MESSAGE_BYTES);
    rope::Answerer(service)
}
