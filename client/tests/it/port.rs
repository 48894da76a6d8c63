//! A port of this machine that is nobody else's.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// Bound, and never listened at: whoever connects is refused, and a listener may come and go. A port that
/// was merely free a moment ago may by now be what the kernel gave to the next who asked for any, be it
/// another test's listener or the near end of a connection.
pub(crate) struct Port {
    pub(crate) addr: SocketAddr,
    _held: TcpSocket,
}

impl Port {
    pub(crate) fn hold() -> Self {
        let held = TcpSocket::new_v4().unwrap();
        // With it on both sides, who asks for this port may listen, and who asks for any is given another.
        held.set_reuseaddr(true).unwrap();
        held.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self {
            addr: held.local_addr().unwrap(),
            _held: held,
        }
    }
}
