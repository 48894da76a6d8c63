//! Request metadata (gRPC headers) that lets a layer judge a call before its body is read.

/// Output pixels of the call: width times height times frames, summed over its items. Decimal.
pub const COST_PIXELS: &str = "preheat-cost-pixels";

/// Milliseconds until the trainer needs the answer, as known when the call was sent. A duration,
/// not a time of day, so that clocks need not agree. Decimal.
pub const NEEDED_IN_MS: &str = "preheat-needed-in-ms";

/// On errors: milliseconds after which a retry is welcome (gRFC A6). Decimal; negative means never.
pub const RETRY_PUSHBACK_MS: &str = "grpc-retry-pushback-ms";
