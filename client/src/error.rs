//! Everything that can go wrong, said so that the reader knows what to do next.

use preheat_proto::Code;

/// Why the loader cannot start or go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A field of [`Config`](crate::Config) makes no sense.
    #[error("config: `{field}` {reason}")]
    Config {
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// The dataset cannot be indexed.
    #[error("dataset `{path}`: {reason}")]
    Dataset {
        /// The folder, or the file in it that is to blame.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sample cannot be encoded, and the policy is to fail.
    #[error(
        "bad sample `{key}`: {reason}; repair or remove the file, or set bad_samples to Substitute \
         or Skip"
    )]
    BadSample {
        /// Path of the sample, relative to the dataset.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sample and everything that could have replaced it are bad.
    #[error(
        "bad sample `{key}`: {reason}; nor can any of the {tries} samples after it in its bucket \
         replace it: repair the dataset"
    )]
    NoSubstitute {
        /// Path of the sample, relative to the dataset.
        key: String,
        /// What is wrong with it.
        reason: String,
        /// How many substitutes were tried.
        tries: u32,
    },
    /// More bad samples than [`Config`](crate::Config) allows.
    #[error(
        "{bad} bad samples among {seen}, over {over}; {}; {report}; repair the dataset, or raise the \
         bound",
        .first.join("; ")
    )]
    TooManyBad {
        /// How many.
        bad: u64,
        /// Among how many.
        seen: u64,
        /// The bound: its name in the config, and its value.
        over: String,
        /// The first few, with reasons.
        first: Vec<String>,
        /// Where the others are.
        report: String,
    },
    /// Nobody answers at the endpoint.
    #[error(
        "nobody answers at {endpoint} within {waited_ms} ms: {reason}; start a replica there, or \
         correct `endpoint`"
    )]
    Unreachable {
        /// The endpoint as configured.
        endpoint: String,
        /// How long it was tried.
        waited_ms: u128,
        /// The last failure.
        reason: String,
    },
    /// The replica wants to know who calls, and does not like what it was shown.
    #[error("{endpoint} does not let this loader in: {reason}")]
    Refused {
        /// The endpoint as configured.
        endpoint: String,
        /// The replica's words.
        reason: String,
    },
    /// The replica serves other models.
    #[error("{endpoint} does not serve a model named `{model}`; it serves {served}")]
    UnknownModel {
        /// The endpoint as configured.
        endpoint: String,
        /// The model as configured.
        model: String,
        /// What is served there.
        served: String,
    },
    /// The model cannot do what the config asks of it.
    #[error("model `{model}`: {reason}")]
    Model {
        /// The model as configured.
        model: String,
        /// What it cannot do, and what it can.
        reason: String,
    },
    /// A chunk could not be encoded.
    #[error("encoding {what} failed ({code:?}): {message}")]
    Call {
        /// Which samples of which batch.
        what: String,
        /// The kind of failure.
        code: Code,
        /// The replica's words, or the transport's.
        message: String,
    },
    /// A saved state belongs to another run.
    #[error(
        "the saved state does not fit this run; restore these as they were, or start afresh: {}",
        .fields.join("; ")
    )]
    StateMismatch {
        /// One entry for each field that differs: its name, the saved and the present value.
        fields: Vec<String>,
    },
    /// A saved state cannot be read.
    #[error("saved state: {0}")]
    State(String),
    /// The loader already returned an error; it will not skip the batch that failed.
    #[error("the loader stopped at an earlier error: {0}; restore from `state()` to go on")]
    Stopped(String),
    /// Something that should be impossible.
    #[error("internal: {0}; please report it")]
    Internal(String),
}

impl Error {
    pub(crate) fn config(field: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Config { field, reason }
    }

    pub(crate) fn dataset(path: impl Into<String>, reason: impl Into<String>) -> Self {
        let (path, reason) = (path.into(), reason.into());
        Self::Dataset { path, reason }
    }
}
