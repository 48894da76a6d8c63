//! SIGTERM and SIGINT: the first asks for a drain, the second ends the process. SIGHUP: reload.

use std::{future::Future, io, process};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::reload::Reloader;

/// Exit status after a second signal, when calls in flight were dropped.
const CUT_SHORT: i32 = 130;

/// Completes at the first signal; the handlers are installed before this returns.
pub(crate) fn first() -> io::Result<impl Future<Output = ()>> {
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
pub(crate) struct Hangups(Signal);

impl Hangups {
    pub(crate) fn listen() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Asks for a reload at every one, also for one that came while there was nothing to reload.
    pub(crate) fn reload(mut self, reloader: Reloader) {
        tokio::spawn(async move {
            while self.0.recv().await.is_some() {
                tracing::info!("reloading the models");
                // What comes of it is in the log. Signals that come meanwhile are one signal.
                let _ = reloader.reload().await;
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
