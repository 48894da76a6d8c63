//! Where log lines and spans go.

use tracing_subscriber::{
    EnvFilter, Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt,
};

/// To be kept until the end: what is still to be exported then is.
pub(crate) struct Logging {
    #[cfg(feature = "otlp")]
    _export: Option<crate::otlp::Export>,
}

/// Log lines to stderr, so that stdout holds the bound address and nothing else; spans to the
/// collector at `otlp`, if any. To be called inside the runtime.
///
/// # Errors
/// An endpoint that is no URI, or a build that cannot export.
pub(crate) fn start(otlp: Option<&str>) -> anyhow::Result<Logging> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(filter);
    let subscriber = tracing_subscriber::registry().with(lines);
    // A program that embeds a replica may have its own logging already, which is fine.
    #[cfg(feature = "otlp")]
    {
        let (layer, export) = otlp.map(crate::otlp::layer).transpose()?.unzip();
        let _ = subscriber.with(layer).try_init();
        Ok(Logging { _export: export })
    }
    #[cfg(not(feature = "otlp"))]
    {
        anyhow::ensure!(
            otlp.is_none(),
            "--otlp-endpoint: this program was built without it, build with --features otlp"
        );
        let _ = subscriber.try_init();
        Ok(Logging {})
    }
}
