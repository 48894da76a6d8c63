//! Where a call belongs in its caller's trace: W3C trace context, in the span around the call and
//! so in every line of the log that the call causes.

use http::HeaderMap;
use tracing::{Span, field};

/// The header, `version-trace-parent-flags` in hexadecimal.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The span around a call.
pub(crate) fn span(path: &str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        "call",
        path,
        trace_id = field::Empty,
        parent_id = field::Empty,
        code = field::Empty,
        otel.name = path.trim_start_matches('/'),
        otel.kind = "server",
    );
    let text = headers.get(TRACEPARENT).and_then(|text| text.to_str().ok());
    if let Some([trace, parent]) = text.and_then(parse) {
        span.record("trace_id", trace).record("parent_id", parent);
        #[cfg(feature = "otlp")]
        crate::otlp::adopt(&span, headers);
    }
    span
}

/// Ids of the trace and of the caller's span. What is malformed is as good as not there, as the
/// specification wants it.
fn parse(text: &str) -> Option<[&str; 2]> {
    let mut parts = text.split('-');
    let [version, trace, parent, flags] = [(); 4].map(|()| parts.next().unwrap_or_default());
    let is_hex = |text: &str, length: usize| {
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        text.len() == length && text.bytes().all(lower)
    };
    let is_id = |text: &str, length| is_hex(text, length) && text.bytes().any(|byte| byte != b'0');
    // Later versions may append parts, the first one may not.
    let fits = is_hex(version, 2)
        && version != "ff"
        && (version != "00" || parts.next().is_none())
        && is_id(trace, 32)
        && is_id(parent, 16)
        && is_hex(flags, 2);
    fits.then_some([trace, parent])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_read_as_the_specification_writes_them() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let good = format!("00-{trace}-{parent}-01");
        assert_eq!(parse(&good), Some([trace, parent]));
        assert_eq!(
            parse(&format!("cc-{trace}-{parent}-01-more")),
            Some([trace, parent])
        );
        for bad in [
            String::new(),
            good.to_uppercase(),
            good.replace("00-4b", "ff-4b"),
            format!("{good}-more"),
            good.replace(trace, &"0".repeat(32)),
            good.replace(parent, &"0".repeat(16)),
            good.replace(parent, &parent[1..]),
            good.replace("-01", ""),
            good.replace("-01", "-é1"),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }
}
