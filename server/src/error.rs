//! The one place where the engine's reasons become the wire's codes.

use preheat_proto::{Code, Error, ItemCode};

use crate::{
    engine::{FaultKind, Refusal},
    stack::DRAIN_PUSHBACK,
};

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Busy { retry_after } => Self::busy(message, retry_after),
            Refusal::TooLarge(_) => Self::new(Code::TooLarge, message),
            Refusal::BadRequest(_) => Self::new(Code::BadRequest, message),
            Refusal::Deadline => Self::new(Code::Deadline, message),
            Refusal::Stopped | Refusal::NoDevice(_) => {
                Self::new(Code::Unavailable, message).retry_after(DRAIN_PUSHBACK)
            }
        }
    }
}

impl From<FaultKind> for ItemCode {
    fn from(kind: FaultKind) -> Self {
        match kind {
            FaultKind::BadImage => Self::BadImage,
            FaultKind::TooLarge => Self::TooLarge,
            FaultKind::Unsupported => Self::Unsupported,
            FaultKind::Changed => Self::Changed,
            FaultKind::NotFinite => Self::NotFinite,
            // The engine turns a shape fault into a refusal of the whole call.
            FaultKind::Shape | FaultKind::Internal => Self::Internal,
        }
    }
}
