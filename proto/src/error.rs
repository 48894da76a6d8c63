//! The short list of reasons why a call or an item fails, and its translation to gRPC and back.
//!
//! The list is short on purpose: each code says what the caller should *do*.

use std::time::Duration;

use rkyv::{Archive, Deserialize, Serialize};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic_types::{ErrorDetails, StatusExt};

use crate::headers::RETRY_PUSHBACK_MS;

/// Why a whole call failed. One gRPC code each, so that no second field can disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is wrong and will stay wrong: do not retry. `INVALID_ARGUMENT`.
    BadRequest,
    /// No model of that name is served here. `NOT_FOUND`.
    UnknownModel,
    /// The model is served with another fingerprint. `FAILED_PRECONDITION`.
    WrongFingerprint,
    /// The message, or what it asks for, is over a limit: send less. `OUT_OF_RANGE`.
    TooLarge,
    /// The queue is full: come back after the pushback. Not a fault. `RESOURCE_EXHAUSTED`.
    Busy,
    /// Draining, starting or unreachable: try another replica. `UNAVAILABLE`.
    Unavailable,
    /// The deadline passed first. `DEADLINE_EXCEEDED`.
    Deadline,
    /// The caller went away. `CANCELLED`.
    Cancelled,
    /// Credentials are missing or wrong. `UNAUTHENTICATED`.
    Unauthenticated,
    /// The peer does not speak this protocol. `UNIMPLEMENTED`.
    NotAReplica,
    /// A fault of the replica. `INTERNAL`, and every gRPC code not listed above.
    Internal,
}

impl Code {
    /// All codes, for tests and tables.
    pub const ALL: [Self; 11] = [
        Self::BadRequest,
        Self::UnknownModel,
        Self::WrongFingerprint,
        Self::TooLarge,
        Self::Busy,
        Self::Unavailable,
        Self::Deadline,
        Self::Cancelled,
        Self::Unauthenticated,
        Self::NotAReplica,
        Self::Internal,
    ];

    /// Whether the same request may succeed later or elsewhere.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Busy | Self::Unavailable | Self::Deadline | Self::Cancelled
        )
    }

    const fn to_grpc(self) -> tonic::Code {
        match self {
            Self::BadRequest => tonic::Code::InvalidArgument,
            Self::UnknownModel => tonic::Code::NotFound,
            Self::WrongFingerprint => tonic::Code::FailedPrecondition,
            Self::TooLarge => tonic::Code::OutOfRange,
            Self::Busy => tonic::Code::ResourceExhausted,
            Self::Unavailable => tonic::Code::Unavailable,
            Self::Deadline => tonic::Code::DeadlineExceeded,
            Self::Cancelled => tonic::Code::Cancelled,
            Self::Unauthenticated => tonic::Code::Unauthenticated,
            Self::NotAReplica => tonic::Code::Unimplemented,
            Self::Internal => tonic::Code::Internal,
        }
    }
}

impl From<tonic::Code> for Code {
    fn from(code: tonic::Code) -> Self {
        Self::ALL
            .into_iter()
            .find(|ours| ours.to_grpc() == code)
            .unwrap_or(Self::Internal)
    }
}

/// Why a call failed, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of failure, and so what to do.
    pub code: Code,
    /// What was wrong, what was seen, what to do. Lower case, no full stop.
    pub message: String,
    /// When to come back. Always there for [`Code::Busy`].
    pub retry_after: Option<Duration>,
}

impl Error {
    /// An error without a pushback.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// A full queue that expects room after `retry_after`.
    pub fn busy(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            code: Code::Busy,
            message: message.into(),
            retry_after: Some(retry_after),
        }
    }

    /// The same, and when a retry is welcome.
    #[must_use]
    pub fn retry_after(self, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..self
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let code = error.code.to_grpc();
        let Some(after) = error.retry_after else {
            return Self::new(code, error.message);
        };
        // Said twice: gRPC libraries that retry by themselves read the header, and programs that
        // look into errors read google.rpc.RetryInfo. The header is an int32: past it means never.
        let millis = i32::try_from(after.as_millis()).unwrap_or(i32::MAX);
        let mut metadata = MetadataMap::new();
        metadata.insert(RETRY_PUSHBACK_MS, MetadataValue::from(millis));
        let details = ErrorDetails::with_retry_info(Some(after));
        Self::with_error_details_and_metadata(code, error.message, details, metadata)
    }
}

impl From<&tonic::Status> for Error {
    fn from(status: &tonic::Status) -> Self {
        let retry_after = status
            .metadata()
            .get(RETRY_PUSHBACK_MS)
            .and_then(|value| value.to_str().ok()?.parse::<u32>().ok())
            .map(|millis| Duration::from_millis(u64::from(millis)));
        Self {
            code: status.code().into(),
            message: status.message().to_owned(),
            retry_after,
        }
    }
}

/// What became of one item of a call that itself succeeded.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rkyv(derive(Clone, Copy, Debug, PartialEq, Eq))]
#[repr(u8)]
pub enum ItemCode {
    /// Encoded; the tensor is in the answer.
    Ok = 0,
    /// Not an image, truncated, or damaged beyond decoding.
    BadImage = 1,
    /// Declares more pixels than the limit.
    TooLarge = 2,
    /// A format, colour space or feature that is not decoded here.
    Unsupported = 3,
    /// Decodes to another size than the request was planned for: the file has changed.
    Changed = 4,
    /// The latent has a NaN or an infinity.
    NotFinite = 5,
    /// A fault of the replica, not of the item.
    Internal = 6,
}

impl ItemCode {
    /// Whether the item itself is to blame, so that asking again is useless.
    pub const fn is_bad_item(self) -> bool {
        !matches!(self, Self::Ok | Self::Internal)
    }
}

impl From<ArchivedItemCode> for ItemCode {
    fn from(code: ArchivedItemCode) -> Self {
        match code {
            ArchivedItemCode::Ok => Self::Ok,
            ArchivedItemCode::BadImage => Self::BadImage,
            ArchivedItemCode::TooLarge => Self::TooLarge,
            ArchivedItemCode::Unsupported => Self::Unsupported,
            ArchivedItemCode::Changed => Self::Changed,
            ArchivedItemCode::NotFinite => Self::NotFinite,
            ArchivedItemCode::Internal => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for code in Code::ALL {
            let sent = Error {
                code,
                message: "why".into(),
                retry_after: None,
            };
            assert_eq!(Error::from(&tonic::Status::from(sent.clone())), sent);
        }
    }

    #[test]
    fn pushback_survives_the_wire() {
        let sent = Error::busy("queue full", Duration::from_millis(1500));
        let status = tonic::Status::from(sent.clone());
        assert_eq!(Error::from(&status), sent);
        let info = status.get_details_retry_info().unwrap();
        assert_eq!(info.retry_delay, sent.retry_after);
        let later = Error::new(Code::Unavailable, "draining").retry_after(Duration::from_secs(1));
        assert_eq!(Error::from(&tonic::Status::from(later.clone())), later);
        let plain = tonic::Status::from(Error::new(Code::BadRequest, "no"));
        assert!(plain.details().is_empty() && plain.metadata().is_empty());
    }

    #[test]
    fn unlisted_codes_are_faults() {
        assert_eq!(Code::from(tonic::Code::DataLoss), Code::Internal);
        assert_eq!(Code::from(tonic::Code::Unknown), Code::Internal);
    }
}
