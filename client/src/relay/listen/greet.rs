//! The first bytes of a connection: who speaks what, told apart before anything is built for it.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_util::either::Either;

/// From the connection to the end of HTTP/2's preface, TLS between them included. Generous for a
/// slow network; a peer that takes longer holds a place for nothing.
const GREETING_TIME: Duration = Duration::from_secs(10);
/// A peer that is told why it is turned away may take so long to hear it, and say so much more.
const FAREWELL: (Duration, u64) = (Duration::from_secs(1), 64 << 10);
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;
/// An empty SETTINGS frame, which every HTTP/2 server sends first.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// A browser or curl shows this.
const HTTP1_ANSWER: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    content-type: text/plain\r\nconnection: close\r\n\r\n\
    this port speaks gRPC, which is HTTP/2; the status page is on --metrics-listen\n";

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Rude {
    Said(&'static str),
    Handshake(io::Error),
    Silent,
    /// Went away before it said anything: a probe of the port. Not worth a word.
    Gone,
}

impl fmt::Display for Rude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(what) => f.write_str(what),
            Self::Handshake(error) => write!(f, "failed the TLS handshake: {error}"),
            Self::Silent => write!(f, "did not greet within {GREETING_TIME:?}"),
            Self::Gone => f.write_str("closed the connection"),
        }
    }
}

/// A connection that has said that it speaks HTTP/2.
pub(super) type Greeted =
    Prefaced<Either<TcpStream, Box<tokio_rustls::server::TlsStream<TcpStream>>>>;

/// Takes TLS off, if there is any, and waits for HTTP/2's preface. A peer that speaks something
/// else is told so in words that its own error message is likely to show.
/// It has [`GREETING_TIME`].
pub(super) async fn greet(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
) -> Result<Greeted, Rude> {
    let greeting = tokio::time::timeout(GREETING_TIME, hello(stream, tls));
    greeting.await.unwrap_or(Err(Rude::Silent))
}

async fn hello(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> Result<Greeted, Rude> {
    // Answers are written whole. Where it cannot be set the connection is already gone.
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    let io = match (stream.peek(&mut first).await, tls) {
        (Err(_) | Ok(0), _) => return Err(Rude::Gone),
        (Ok(_), None) if first[0] == TLS_HANDSHAKE => {
            farewell(stream, &SETTINGS).await;
            return Err(Rude::Said("speaks TLS, and this port does not"));
        }
        (Ok(_), None) => Either::Left(stream),
        (Ok(_), Some(config)) if first[0] == TLS_HANDSHAKE => {
            let accept = TlsAcceptor::from(config).accept(stream);
            match accept.into_fallible().await {
                Ok(io) => Either::Right(Box::new(io)),
                Err((error, stream)) => {
                    // The alert that tells the peer why is sent; it shall also be read.
                    farewell(stream, &[]).await;
                    return Err(Rude::Handshake(error));
                }
            }
        }
        (Ok(_), Some(_)) => {
            farewell(stream, &go_away(b"this port speaks TLS: use https://")).await;
            return Err(Rude::Said("speaks plaintext, and this port speaks TLS"));
        }
    };
    preface(io).await
}

async fn preface<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) -> Result<Prefaced<IO>, Rude> {
    let mut head = [0; PREFACE.len()];
    let mut count = 0;
    while count < head.len() {
        match io.read(&mut head[count..]).await {
            // TLS 1.3 refuses a client's certificate only now.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Rude::Handshake(error));
            }
            Err(_) | Ok(0) => return Err(Rude::Gone),
            Ok(more) => count += more,
        }
        if head[..count] != PREFACE[..count] {
            if head[..count].is_ascii() {
                farewell(io, HTTP1_ANSWER).await;
            }
            return Err(Rude::Said("speaks neither HTTP/2 nor TLS"));
        }
    }
    Ok(Prefaced { again: PREFACE, io })
}

/// SETTINGS, and GOAWAY with INADEQUATE_SECURITY and the reason, which gRPC libraries show.
fn go_away(reason: &[u8]) -> Vec<u8> {
    const INADEQUATE_SECURITY: u8 = 0xc;
    let length = 8 + reason.len() as u8;
    let mut frames = SETTINGS.to_vec();
    frames.extend([0, 0, length, 7, 0, 0, 0, 0, 0]);
    frames.extend([0, 0, 0, 0, 0, 0, 0, INADEQUATE_SECURITY]);
    frames.extend(reason);
    frames
}

/// Says a last word and waits, a little, until it is heard: closing at once could overtake it.
async fn farewell<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO, word: &[u8]) {
    let (time, bytes) = FAREWELL;
    let _ = tokio::time::timeout(time, async {
        io.write_all(word).await?;
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(bytes), &mut tokio::io::sink()).await
    })
    .await;
}

/// A connection whose preface was read, and is read again.
pub(super) struct Prefaced<IO> {
    again: &'static [u8],
    io: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefaced<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.again.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let (now, later) = self
            .again
            .split_at(self.again.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.again = later;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefaced<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
