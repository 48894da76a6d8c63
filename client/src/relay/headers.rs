//! Which headers go on, and what the relay reads in them.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

/// Deadlines further away than this are none: it keeps the arithmetic of clocks in range.
const FARTHEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// The protocol's bound on the digits of `grpc-timeout`.
const MAX_TIMEOUT: u128 = 99_999_999;

/// How much of a caller's patience is kept back, to say in words that it is over before the
/// caller's own timer does: a tenth, and no more than this.
const MARGIN: Duration = Duration::from_millis(50);

/// About the connection, not about the call; and the length, which is not known where a body is
/// passed on while it comes.
const HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    header::CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
];

/// Takes off what ends at this hop.
pub(super) fn strip(headers: &mut HeaderMap) {
    // Names that the sender itself declares to be about the connection, which HTTP/2 does not allow
    // but translators from HTTP/1 leave behind.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// A decimal number.
pub(super) fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Text, if it is any.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    Some(text).filter(|text| !text.is_empty())
}

/// The caller's patience, a little shortened; `None` where it sets no bound.
pub(super) fn patience(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // The protocol allows eight digits; `parse` alone would also take a sign.
    let digits = Some(digits).filter(|d| d.len() <= 8 && d.bytes().all(|b| b.is_ascii_digit()))?;
    let value: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    };
    let timeout = timeout - (timeout / 10).min(MARGIN);
    Some(timeout.min(FARTHEST))
}

/// What is left until then, as `grpc-timeout` says it.
pub(super) fn timeout_until(deadline: Instant) -> HeaderValue {
    let left = deadline.saturating_duration_since(Instant::now());
    let (value, unit) = match (left.as_micros(), left.as_millis()) {
        (micros @ ..=MAX_TIMEOUT, _) => (micros, 'u'),
        (_, millis @ ..=MAX_TIMEOUT) => (millis, 'm'),
        _ => (u128::from(left.as_secs()), 'S'),
    };
    let text = format!("{value}{unit}");
    HeaderValue::try_from(text).expect("digits and a letter are a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        let read = |text| patience(&of("grpc-timeout", text));
        assert_eq!(read("10S"), Some(Duration::from_millis(9950)));
        assert_eq!(read("100m"), Some(Duration::from_millis(90)));
        assert_eq!(read("99999999H"), Some(FARTHEST));
        for bad in ["", "S", "10", "+1S", "1.5S", "123456789S", "1s"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_written_within_eight_digits() {
        for (left, expected) in [
            (Duration::ZERO, "0u"),
            (Duration::from_secs(99), "99000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(200_000), "200000S"),
        ] {
            assert_eq!(timeout_until(Instant::now() + left), expected);
        }
    }

    #[test]
    fn what_is_about_the_connection_ends_here() {
        let mut headers = of("connection", "keep-alive, x-hop");
        for name in ["te", "x-hop", "content-length", "x-call", "grpc-encoding"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        strip(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-encoding", "x-call"]);
    }
}
