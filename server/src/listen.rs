//! From the listening socket to connections that have shown that they speak HTTP/2: bounded in
//! number, and in the time that each may take to greet.

use std::{
    convert::Infallible,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::rustls::ServerConfig;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::{rarely::Rarely, watch::Current};

mod greet;
mod rewind;

use greet::{Greeted, Rude, greet};

/// Connections at a time, those that are still greeting included: past it new ones are closed at
/// once. A fleet of trainers needs a few each; an idle one costs some kilobytes.
pub(crate) const MAX_CONNECTIONS: usize = 1024;

/// Greeted connections that may wait for the transport, which takes them at once.
const GREETED_QUEUE: usize = 16;

/// After the system refused to accept, for example because no file handles are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Lines about strangers.
static STRANGERS: Rarely = Rarely::new(5, Duration::from_secs(10));

/// Accepts until the stream is dropped, which closes the listening socket.
pub(crate) fn incoming(
    listener: TcpListener,
    tls: Option<Current<ServerConfig>>,
) -> impl Stream<Item = Result<Connection, Infallible>> {
    let (greeted, connections) = mpsc::channel(GREETED_QUEUE);
    tokio::spawn(accept(listener, tls, greeted));
    futures::stream::unfold(connections, async |mut connections| {
        let connection = connections.recv().await?;
        Some((Ok(connection), connections))
    })
}

async fn accept(
    listener: TcpListener,
    tls: Option<Current<ServerConfig>>,
    greeted: mpsc::Sender<Connection>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = greeted.closed() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                note(format_args!("cannot accept connections: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            note(format_args!(
                "{MAX_CONNECTIONS} connections are open: that of {peer} is closed"
            ));
            continue;
        };
        let config = tls.as_ref().map(|current| Arc::clone(&current.borrow()));
        let greeted = greeted.clone();
        tokio::spawn(async move {
            let connection = tokio::select! {
                connection = Connection::open(stream, config, place) => connection,
                () = greeted.closed() => return,
            };
            match connection {
                // Nobody takes it while the replica ends, which closes it.
                Ok(connection) => drop(greeted.send(connection).await),
                Err(Rude::Gone) => {}
                Err(rude) => note(format_args!("{peer} {rude}")),
            }
        });
    }
}

fn note(line: std::fmt::Arguments<'_>) {
    if let Some(left_out) = STRANGERS.may() {
        tracing::warn!(left_out, "{line}");
    }
}

/// An open connection. Gives its place back when dropped.
pub(crate) struct Connection {
    io: Greeted<TcpStream>,
    info: TcpConnectInfo,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn open(
        stream: TcpStream,
        tls: Option<Arc<ServerConfig>>,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, Rude> {
        // Answers are written whole. Where it cannot be set the connection is already gone.
        let _ = stream.set_nodelay(true);
        let info = TcpConnectInfo {
            local_addr: stream.local_addr().ok(),
            remote_addr: stream.peer_addr().ok() as Option<SocketAddr>,
        };
        Ok(Self {
            io: greet(stream, tls).await?,
            info,
            _place: place,
        })
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
