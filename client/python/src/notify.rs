//! How a thread of the core tells an event loop that something is there: without the GIL, by a byte.

#[cfg(unix)]
pub(crate) use self::unix::{Notice, pair};

#[cfg(not(unix))]
pub(crate) use self::nothing::{Notice, pair};

#[cfg(unix)]
mod unix {
    use std::{
        io::{self, Write},
        os::{fd::AsRawFd, unix::net::UnixStream},
    };

    /// What becomes readable.
    pub(crate) struct Notice(UnixStream);

    /// What makes it so.
    pub(crate) struct Sender(UnixStream);

    pub(crate) fn pair() -> io::Result<(Notice, Sender)> {
        let (notice, sender) = UnixStream::pair()?;
        Ok((Notice(notice), Sender(sender)))
    }

    impl Notice {
        pub(crate) fn fileno(&self) -> i32 {
            self.0.as_raw_fd()
        }
    }

    impl Sender {
        pub(crate) fn send(mut self) {
            // Fails if nobody listens any more. One byte always fits.
            let _ = self.0.write_all(&[1]);
        }
    }
}

#[cfg(not(unix))]
mod nothing {
    //! Event loops watch sockets there, and nothing else: the package waits in a thread instead.

    use std::io;

    pub(crate) enum Notice {}
    pub(crate) struct Sender;

    pub(crate) fn pair() -> io::Result<(Notice, Sender)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    impl Notice {
        pub(crate) fn fileno(&self) -> i32 {
            match *self {}
        }
    }

    impl Sender {
        pub(crate) fn send(self) {}
    }
}
