//! What went wrong with a store, and what to do about it.

use std::{error::Error as StdError, io};

use object_store::Error;

/// Of reading one file.
pub(super) fn file(name: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => missing(name),
        io::ErrorKind::PermissionDenied => {
            format!("cannot read {name}: {error}; let the loader's user read it")
        }
        _ => format!("cannot read {name}: {error}"),
    }
}

fn missing(name: &str) -> String {
    format!(
        "{name} is not there: it was renamed or removed, or never uploaded; put it back, or index \
         the dataset again"
    )
}

/// Of reading one object.
pub(super) fn read(name: &str, local: bool, error: &Error) -> String {
    match error {
        Error::NotFound { .. } => missing(name),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => denied(name, error),
        Error::Generic { .. } if !local => unreachable(name, error),
        _ => format!("cannot read {name}: {}", causes(error)),
    }
}

/// Of listing a store.
pub(super) fn list(uri: &str, error: &Error) -> String {
    match error {
        Error::NotFound { .. } => format!("there is nothing at {uri}: correct the bucket or path"),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => denied(uri, error),
        // Of lists object_store does not tell these apart.
        Error::Generic { .. } if causes(error).contains("403 Forbidden") => denied(uri, error),
        Error::Generic { .. } if causes(error).contains("<Code>NoSuchBucket</Code>") => {
            format!("there is nothing at {uri}: correct the bucket or path")
        }
        Error::Generic { store: "HTTP", .. } | Error::NotSupported { .. } => format!(
            "{uri} cannot be listed, as most HTTP servers cannot: name its shards, as in \
             https://host/{{000..099}}.tar ({})",
            causes(error)
        ),
        _ => unreachable(uri, error),
    }
}

fn denied(name: &str, error: &Error) -> String {
    let code = if matches!(error, Error::Unauthenticated { .. }) {
        401
    } else {
        403
    };
    format!(
        "access to {name} is denied ({code}): give credentials that may read it (for S3 \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for a public bucket \
         AWS_SKIP_SIGNATURE=true), or let them read it"
    )
}

fn unreachable(name: &str, error: &Error) -> String {
    let causes = causes(error);
    let advice = if causes.contains("dns error") {
        "the host's name is unknown: correct the URI, the region or the endpoint"
    } else if causes.contains("169.254.169.254") || causes.contains("metadata.google") {
        "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
         GOOGLE_APPLICATION_CREDENTIALS, or AWS_SKIP_SIGNATURE=true for a public bucket"
    } else if causes.contains("scheme is not allowed") {
        "set AWS_ALLOW_HTTP=true to talk to a server without TLS"
    } else if causes.contains("non-partial response") {
        "the server does not send parts of files: serve them with one that knows range requests"
    } else if causes.contains("builder error") {
        "the URI or the endpoint is malformed"
    } else {
        "the store or the network to it is in trouble; it was tried again for as long as allowed"
    };
    format!("cannot read {name}: {advice} ({causes})")
}

/// An error and what caused it, each said once.
fn causes(error: &Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        next = cause.source();
    }
    said
}
