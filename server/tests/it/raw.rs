//! HTTP/2 without a gRPC library, so that a test can send what no library would.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tonic::Status;

use crate::harness::soon;

/// A connection.
#[derive(Clone)]
pub(crate) struct Raw {
    sender: SendRequest<Bytes>,
    authority: String,
}

/// An answer, whatever it is.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    /// The status, from the trailers, or from the headers of an answer that has nothing else.
    pub(crate) fn status(&self) -> Option<Status> {
        Status::from_header_map(&self.trailers).or_else(|| Status::from_header_map(&self.headers))
    }
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(16 << 20)
            .initial_connection_window_size(64 << 20)
            .handshake(stream)
            .await
            .unwrap();
        tokio::spawn(connection);
        Self {
            sender,
            authority: address.to_string(),
        }
    }

    /// Opens a stream; the second part sends its body.
    pub(crate) async fn open(
        &self,
        headers: &[(String, Vec<u8>)],
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        let uri = format!("http://{}/preheat.v1.Encoder/Encode", self.authority);
        let mut request = Request::post(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(name, &value[..]);
        }
        let request = request.body(()).unwrap();
        let mut sender = soon(self.sender.clone().ready()).await?;
        sender.send_request(request, false)
    }

    /// A whole exchange, however long it takes.
    pub(crate) async fn call(
        &self,
        headers: &[(String, Vec<u8>)],
        body: Bytes,
    ) -> Result<Answer, h2::Error> {
        let (response, mut sending) = self.open(headers).await?;
        // A replica that refuses from the headers may be done before all is sent.
        let _ = sending.send_data(body, true);
        read(response).await
    }
}

/// The answer on a stream.
pub(crate) async fn read(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        stream.flow_control().release_capacity(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        headers: head.headers,
        body: body.freeze(),
        trailers: stream.trailers().await?.unwrap_or_default(),
    })
}

/// The five bytes before a gRPC message.
pub(crate) fn prefix(length: u32) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(length);
    bytes.freeze()
}
