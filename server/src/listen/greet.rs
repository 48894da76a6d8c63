//! The first bytes of a connection: who speaks what, told apart before anything is built for it.

use std::{io, sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tokio_util::either::Either;

use super::rewind::{HEAD, Rewind};

/// From the connection to the end of HTTP/2's preface, TLS between them included. Generous for a
/// slow network; a peer that takes longer holds a place for nothing.
pub(super) const GREETING_TIME: Duration = Duration::from_secs(10);

/// A peer that is told why it is turned away may take so long to hear it, and say so much more.
const FAREWELL: (Duration, u64) = (Duration::from_secs(1), 64 << 10);

const PREFACE: &[u8; HEAD] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection that has said that it speaks HTTP/2.
pub(super) type Greeted<IO> = Rewind<Either<Rewind<IO>, Box<TlsStream<Rewind<IO>>>>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rude {
    #[error("speaks plaintext, and this port speaks TLS: it should use https://")]
    Plaintext,
    #[error("speaks TLS, and this port does not: it should use http://")]
    Tls,
    #[error("speaks HTTP/1, and this port speaks gRPC, which is HTTP/2")]
    Http1,
    #[error("speaks neither HTTP/2 nor TLS")]
    Noise,
    #[error("did not finish its greeting within {GREETING_TIME:?}")]
    Silent,
    #[error("failed the TLS handshake: {0}")]
    Handshake(io::Error),
    /// Went away before it said anything: a probe of the port. Not worth a word.
    #[error("closed the connection")]
    Gone,
}

/// Takes TLS off, if there is any, and waits for HTTP/2's preface. A peer that speaks something
/// else is told so in words that its own error message is likely to show.
pub(super) async fn greet<IO>(io: IO, tls: Option<Arc<ServerConfig>>) -> Result<Greeted<IO>, Rude>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let greeting = tokio::time::timeout(GREETING_TIME, hello(io, tls));
    greeting.await.unwrap_or(Err(Rude::Silent))
}

async fn hello<IO>(mut io: IO, tls: Option<Arc<ServerConfig>>) -> Result<Greeted<IO>, Rude>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = [0; HEAD];
    let count = io.read(&mut head).await.map_err(|_| Rude::Gone)?;
    let head = &head[..count];
    let io = match (head.first(), tls) {
        (None, _) => return Err(Rude::Gone),
        (Some(&TLS_HANDSHAKE), None) => {
            farewell(io, &SETTINGS).await;
            return Err(Rude::Tls);
        }
        (Some(&TLS_HANDSHAKE), Some(config)) => {
            let accept = TlsAcceptor::from(config).accept(Rewind::new(head, io));
            match accept.into_fallible().await {
                Ok(io) => Either::Right(Box::new(io)),
                Err((error, io)) => {
                    // The alert that tells the peer why is sent; it shall also be read.
                    farewell(io, &[]).await;
                    return Err(Rude::Handshake(error));
                }
            }
        }
        (Some(_), Some(_)) => {
            farewell(io, &go_away(b"this port speaks TLS: use https://")).await;
            return Err(Rude::Plaintext);
        }
        (Some(_), None) => Either::Left(Rewind::new(head, io)),
    };
    preface(io).await
}

async fn preface<IO>(mut io: IO) -> Result<Rewind<IO>, Rude>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = [0; HEAD];
    let mut count = 0;
    while count < HEAD {
        match io.read(&mut head[count..]).await {
            // TLS 1.3 refuses a client's certificate only now.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Rude::Handshake(error));
            }
            Err(_) => return Err(Rude::Gone),
            Ok(0) => return Err(Rude::Gone),
            Ok(more) => count += more,
        }
        if head[..count] != PREFACE[..count] {
            if head[..count].is_ascii() {
                farewell(io, HTTP1_ANSWER).await;
                return Err(Rude::Http1);
            }
            return Err(Rude::Noise);
        }
    }
    Ok(Rewind::new(&head, io))
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

/// An empty SETTINGS frame, which every HTTP/2 server sends first.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A browser or curl shows this.
const HTTP1_ANSWER: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    content-type: text/plain\r\nconnection: close\r\n\r\n\
    this port speaks gRPC, which is HTTP/2; /metrics and /readyz are on --metrics-listen\n";

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

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a peer that says this and then nothing.
    async fn said(words: &[u8]) -> (Option<Rude>, Vec<u8>) {
        let (mut peer, io) = tokio::io::duplex(1 << 16);
        peer.write_all(words).await.unwrap();
        let outcome = greet(io, None).await.err();
        let mut heard = Vec::new();
        let _ = peer.read_to_end(&mut heard).await;
        (outcome, heard)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_bounded() {
        for words in [&b""[..], b"PRI * HTT"] {
            let start = tokio::time::Instant::now();
            let (outcome, _) = said(words).await;
            assert!(matches!(outcome, Some(Rude::Silent)), "{outcome:?}");
            assert_eq!(start.elapsed(), GREETING_TIME);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_protocols_are_told_apart_at_once() {
        let (outcome, heard) = said(b"\x16\x03\x01\x02\x00").await;
        assert!(matches!(outcome, Some(Rude::Tls)), "{outcome:?}");
        assert_eq!(heard, SETTINGS);
        let (outcome, heard) = said(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(matches!(outcome, Some(Rude::Http1)), "{outcome:?}");
        assert!(heard.starts_with(b"HTTP/1.1 505"));
        let (outcome, heard) = said(b"\xff\xfe").await;
        assert!(matches!(outcome, Some(Rude::Noise)), "{outcome:?}");
        assert!(heard.is_empty());
    }

    #[tokio::test]
    async fn a_greeting_in_pieces_is_read_again_whole() {
        let (mut peer, io) = tokio::io::duplex(1 << 16);
        let talk = async {
            for piece in PREFACE.chunks(7) {
                peer.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            peer.write_all(b"and more").await.unwrap();
            drop(peer);
        };
        let (greeted, ()) = tokio::join!(greet(io, None), talk);
        let mut read = Vec::new();
        greeted.unwrap().read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [&PREFACE[..], b"and more"].concat());
    }
}
