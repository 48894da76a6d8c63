//! A relay of TCP connections that can be cut.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::AbortHandle,
};

/// All connections that are open.
#[derive(Clone, Default)]
pub(crate) struct Wires(Arc<Mutex<Vec<AbortHandle>>>);

pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    _runtime: Runtime,
}

impl Proxy {
    pub(crate) fn start(target: SocketAddr, wires: Wires) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let wire = tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
                wires.0.lock().unwrap().push(wire.abort_handle());
            }
        });
        Self {
            addr,
            _runtime: runtime,
        }
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.addr)
    }
}

impl Wires {
    pub(crate) fn cut(&self) {
        for wire in self.0.lock().unwrap().drain(..) {
            wire.abort();
        }
    }
}
