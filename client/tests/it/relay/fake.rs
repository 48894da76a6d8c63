//! A replica that does what the test says.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use futures::FutureExt as _;
use h2::{
    RecvStream,
    server::{self, SendResponse},
};
use http::Request;
use preheat_proto::v1::{InfoResponse, Limits, Model};
use tokio::{net::TcpListener, task::AbortHandle};

use super::{INFO, WINDOW, framed, read, until, well, whole};

/// A replica that does what the test says.
pub(crate) struct Fake {
    pub(crate) addr: SocketAddr,
    pub(crate) calls: Arc<AtomicUsize>,
    task: AbortHandle,
    /// Shared with all that still runs.
    alive: Arc<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// Answers Info and health by itself, and everything else through `answer`.
    pub(crate) async fn start<F>(
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::serving(info("vae", "new", &[]), answer).await
    }

    pub(crate) async fn serving<F>(
        info: InfoResponse,
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let alive = Arc::new(());
        let running = Arc::clone(&alive);
        let task = tokio::spawn(async move {
            // Aborted with the listener, as the connections of a killed process are.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (answer, calls, info) = (answer.clone(), counted.clone(), info.clone());
                let running = Arc::clone(&running);
                connections.spawn(async move {
                    let mut connection = server::Builder::new()
                        .initial_window_size(WINDOW)
                        .initial_connection_window_size(WINDOW)
                        .max_frame_size(1 << 20)
                        .handshake(socket)
                        .await
                        .unwrap();
                    let mut calling = tokio::task::JoinSet::new();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        if request.uri().path() == INFO {
                            calling.spawn(whole(respond, framed(&info)));
                        } else if request.uri().path().starts_with("/grpc.health.v1") {
                            calling.spawn(well(respond));
                        } else {
                            calls.fetch_add(1, SeqCst);
                            let (answering, running) = (answer(request, respond), running.clone());
                            calling.spawn(answering.map(move |()| drop(running)));
                        }
                    }
                });
            }
        })
        .abort_handle();
        Self {
            addr,
            calls,
            task,
            alive,
        }
    }

    /// Ends, and is gone when this returns: to drop it only asks for that.
    pub(crate) async fn gone(self) {
        self.task.abort();
        until("it has ended", || Arc::strong_count(&self.alive) == 1).await;
    }

    /// Answers with the bytes that it was sent.
    pub(crate) async fn echo() -> Self {
        Self::start(|request, respond| async move {
            let (body, _) = read(request.into_body()).await;
            whole(respond, body).await;
        })
        .await
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

pub(crate) fn info(model: &str, fingerprint: &str, older: &[&str]) -> InfoResponse {
    InfoResponse {
        version: "0".into(),
        meta_version: 1,
        models: vec![Model {
            name: model.into(),
            fingerprint: fingerprint.into(),
            older_fingerprints: older.iter().map(|&older| older.to_owned()).collect(),
            ..Model::default()
        }],
        limits: Some(Limits::default()),
    }
}
