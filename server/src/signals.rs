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

/// Asks for a reload at every SIGHUP.
pub(crate) fn on_hangup(reloader: Reloader) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("reloading the models");
            // What comes of it is in the log. Signals that come meanwhile are one signal.
            let _ = reloader.reload().await;
        }
    });
    Ok(())
}

async fn either(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
