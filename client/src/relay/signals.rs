//! SIGTERM and SIGINT: the first asks for a drain, the second ends the process. SIGHUP: the list of
//! replicas is read again.

use std::{future::Future, io, process};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit status after a second signal, when calls in flight were dropped.
const CUT_SHORT: i32 = 130;

/// Completes at the first signal; the handlers are installed before this returns.
pub(super) fn first() -> io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        either(&mut term, &mut int).await;
        tracing::info!("draining: calls in flight finish; a second signal ends at once");
        tokio::spawn(async move {
            either(&mut term, &mut int).await;
            process::exit(CUT_SHORT);
        });
    })
}

/// SIGHUPs from now on; before, one would end the process.
pub(super) struct Hangups(Signal);

/// Listens for them.
pub(super) fn hangups() -> io::Result<Hangups> {
    signal(SignalKind::hangup()).map(Hangups)
}

impl Hangups {
    /// Does this at every one.
    pub(super) fn each(mut self, what: impl Fn() + Send + 'static) {
        tokio::spawn(async move {
            while self.0.recv().await.is_some() {
                tracing::info!("the list of replicas is read again");
                what();
            }
        });
    }
}

async fn either(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
