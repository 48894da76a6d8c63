//! Request metadata (gRPC headers) that lets a layer judge a call before its body is read.

/// Output pixels of the call: width times height times frames, summed over its items. Decimal.
pub const COST_PIXELS: &str = "preheat-cost-pixels";

/// Milliseconds until the trainer needs the answer, as known when the call was sent. A duration,
/// not a time of day, so that clocks need not agree. Decimal.
pub const NEEDED_IN_MS: &str = "preheat-needed-in-ms";

/// Name of the model that the call asks for, as in its message: a balancer need not open that.
pub const MODEL: &str = "preheat-model";

/// The fingerprint that the call pins, as in its message; absent for any.
pub const FINGERPRINT: &str = "preheat-fingerprint";

/// Who asks: one name for all loaders of one run. Balancers share the fleet between trainers.
pub const TRAINER: &str = "preheat-trainer";

/// The trainer's part of the fleet, in proportion to those of the others. Decimal; 1 if absent.
pub const WEIGHT: &str = "preheat-weight";

/// Complete batches that the trainer held when it sent the call. Decimal.
pub const READY: &str = "preheat-ready";

/// On errors: milliseconds after which a retry is welcome (gRFC A6). Decimal; negative means never.
pub const RETRY_PUSHBACK_MS: &str = "grpc-retry-pushback-ms";
