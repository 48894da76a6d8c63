//! Plain sockets and threads: the least that a message can cost.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{Load, Way};

/// Before every message: its length and that of the answer.
const HEAD: usize = 16;

/// One connection for each slot.
pub(super) struct Raw {
    slots: Vec<Slot>,
}

struct Slot {
    stream: TcpStream,
    /// Sent and received from here, as from a message in memory.
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl Raw {
    pub(super) fn start(slots: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("binding a socket")?;
        let address = listener.local_addr()?;
        let connect = |_| {
            let stream = TcpStream::connect(address)?;
            let peer = listener.accept()?.0;
            for end in [&stream, &peer] {
                end.set_nodelay(true)?;
            }
            // Ends with its connection.
            thread::spawn(move || answer(peer));
            Ok(Slot {
                stream,
                sent: Vec::new(),
                received: Vec::new(),
            })
        };
        let slots = (0..slots).map(connect).collect::<anyhow::Result<_>>()?;
        Ok(Self { slots })
    }
}

impl Way for Raw {
    fn run(&mut self, load: Load, time: Duration) -> anyhow::Result<u64> {
        let end = Instant::now() + time;
        thread::scope(|scope| {
            let runs: Vec<_> = self
                .slots
                .iter_mut()
                .map(|slot| scope.spawn(move || slot.run(load, end)))
                .collect();
            let mut calls = 0;
            for run in runs {
                let run = run.join().ok().context("a thread panicked")?;
                calls += run.context("a plain socket failed")?;
            }
            Ok(calls)
        })
    }
}

impl Slot {
    fn run(&mut self, load: Load, end: Instant) -> std::io::Result<u64> {
        self.sent.resize(HEAD + load.up, 1);
        self.received.resize(HEAD + load.down, 0);
        self.sent[..8].copy_from_slice(&(load.up as u64).to_le_bytes());
        self.sent[8..HEAD].copy_from_slice(&(load.down as u64).to_le_bytes());
        let mut calls = 0;
        while Instant::now() < end {
            self.stream.write_all(&self.sent)?;
            self.stream.read_exact(&mut self.received)?;
            calls += 1;
        }
        Ok(calls)
    }
}

/// Serves one connection until it ends.
fn answer(mut stream: TcpStream) {
    let (mut head, mut received, mut sent) = ([0; HEAD], Vec::new(), Vec::new());
    let mut serve = || -> std::io::Result<()> {
        loop {
            stream.read_exact(&mut head)?;
            let length = |at: usize| {
                head[at..at + 8]
                    .iter()
                    .rev()
                    .fold(0, |n, b| n << 8 | *b as usize)
            };
            received.resize(length(0), 0);
            stream.read_exact(&mut received)?;
            sent.resize(HEAD + length(8), 1);
            stream.write_all(&sent)?;
        }
    };
    // The end of the connection is the end of the measurement.
    let _ = serve();
}
