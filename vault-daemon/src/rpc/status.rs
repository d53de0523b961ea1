//! The only map from a core error to a gRPC status.
//!
//! | core error | gRPC code | reasons |
//! |---|---|---|
//! | Invalid | INVALID_ARGUMENT | `PAN_LUHN`, `TOKEN_MALFORMED`, … |
//! | UnknownToken | NOT_FOUND | `UNKNOWN_TOKEN` |
//! | Denied | PERMISSION_DENIED | `DENIED` |
//! | Exhausted | RESOURCE_EXHAUSTED | `QUOTA`, `BUSY` |
//! | IdempotencyKeyReused | ALREADY_EXISTS | `IDEMPOTENCY_KEY_REUSED` |
//! | State | FAILED_PRECONDITION | `SEALED`, `TOKEN_INACTIVE`, `NO_INDEX`, `KEY_EXPIRED` |
//! | Ceremony | by fault: `ceremony_code` | `NO_CEREMONY`, `SHARE_WRONG`, … |
//! | Unavailable | UNAVAILABLE | `STORE`, `OUTCOME_UNKNOWN` |
//! | Corrupt | DATA_LOSS | `CORRUPT` |
//! | DeadlineExceeded | DEADLINE_EXCEEDED | `DEADLINE_EXCEEDED` |
//! | Bug | INTERNAL | `BUG` |
//!
//! Why a vault stays sealed has reasons of its own: [`stays_sealed`].

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use vault_core::error::{CeremonyFault, Error, Exhausted, Invalid};
use vault_core::vault::UnsealError;

use crate::custody::UnsealRefused;

/// The domain of every `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "vault.v1";

/// How long a caller should wait before it asks again, where waiting helps and no window says better.
const RETRY_AFTER_BUSY: Duration = Duration::from_millis(100);
const RETRY_AFTER_STORE: Duration = Duration::from_secs(1);
const RETRY_AFTER_HSM: Duration = Duration::from_secs(5);

/// The gRPC code of an error.
pub const fn code(error: &Error) -> Code {
    match error {
        Error::Invalid(_) => Code::InvalidArgument,
        Error::UnknownToken => Code::NotFound,
        Error::Denied => Code::PermissionDenied,
        Error::Exhausted(_) => Code::ResourceExhausted,
        Error::IdempotencyKeyReused => Code::AlreadyExists,
        Error::State(_) => Code::FailedPrecondition,
        Error::Ceremony(fault) => ceremony_code(*fault),
        Error::Unavailable(_) => Code::Unavailable,
        Error::Corrupt => Code::DataLoss,
        Error::DeadlineExceeded => Code::DeadlineExceeded,
        Error::Bug => Code::Internal,
    }
}

const fn ceremony_code(fault: CeremonyFault) -> Code {
    match fault {
        CeremonyFault::OtherSeal
        | CeremonyFault::Unsealed
        | CeremonyFault::AlreadyOpen
        | CeremonyFault::NotOpen
        | CeremonyFault::SharesTooFew => Code::FailedPrecondition,
        CeremonyFault::GaveAlready | CeremonyFault::ShareRepeated => Code::AlreadyExists,
        CeremonyFault::ShareMalformed | CeremonyFault::DutiesNotAccepted => Code::InvalidArgument,
        CeremonyFault::ShareForeign | CeremonyFault::ShareOtherSet | CeremonyFault::ShareWrong => {
            Code::PermissionDenied
        }
    }
}

/// The status of an error, with its reason and, where waiting helps, how long.
pub fn status(error: &Error) -> Status {
    let mut details = ErrorDetails::with_error_info(error.reason(), DOMAIN, HashMap::new());
    if let Some(delay) = retry_after(error) {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(code(error), error.to_string(), details)
}

fn retry_after(error: &Error) -> Option<Duration> {
    match error {
        Error::Exhausted(Exhausted::Quota { retry_after_seconds }) => {
            Some(Duration::from_secs(u64::from(*retry_after_seconds)))
        }
        Error::Exhausted(Exhausted::Busy) => Some(RETRY_AFTER_BUSY),
        Error::Unavailable(_) => Some(RETRY_AFTER_STORE),
        _ => None,
    }
}

/// The status that says why a vault stays sealed.
pub fn stays_sealed(error: &UnsealError) -> Status {
    match error {
        UnsealError::Commit(error) => return status(error),
        UnsealError::Share(fault) => return status(&Error::Ceremony((*fault).into())),
        UnsealError::OtherSeal => return status(&Error::Ceremony(CeremonyFault::OtherSeal)),
        _ => {}
    }
    let (code, reason) = why_sealed(error);
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    match error {
        UnsealError::Store(_) => _ = details.set_retry_info(Some(RETRY_AFTER_STORE)),
        UnsealError::Hsm(fault) if fault.may_pass() => _ = details.set_retry_info(Some(RETRY_AFTER_HSM)),
        _ => {}
    }
    Status::with_error_details(code, error.to_string(), details)
}

fn why_sealed(error: &UnsealError) -> (Code, &'static str) {
    let of_ceremony = |fault| (ceremony_code(fault), Error::Ceremony(fault).reason());
    match error {
        UnsealError::WrongPassphrase => (Code::PermissionDenied, "WRONG_PASSPHRASE"),
        UnsealError::Share(fault) => of_ceremony((*fault).into()),
        UnsealError::OtherSeal => of_ceremony(CeremonyFault::OtherSeal),
        UnsealError::Hsm(fault) if fault.may_pass() => (Code::Unavailable, fault.reason()),
        UnsealError::Hsm(fault) => (Code::FailedPrecondition, fault.reason()),
        UnsealError::Keyring(_) => (Code::FailedPrecondition, "KEYRING_UNUSABLE"),
        UnsealError::OldKeyring { .. } => (Code::FailedPrecondition, "KEYRING_OLD"),
        UnsealError::Anchor(_) => (Code::FailedPrecondition, "ANCHOR_UNUSABLE"),
        UnsealError::Journal(_) => (Code::FailedPrecondition, "JOURNAL_UNUSABLE"),
        UnsealError::RolledBack { .. } => (Code::FailedPrecondition, "ROLLED_BACK"),
        UnsealError::OtherOrigin | UnsealError::Retired | UnsealError::TooManyLogs => {
            (Code::FailedPrecondition, "OTHER_ORIGIN")
        }
        UnsealError::OtherLog { .. } => (Code::FailedPrecondition, "ROLLED_BACK"),
        UnsealError::Registry => (Code::DataLoss, "CORRUPT"),
        UnsealError::OtherKeyring { .. } => (Code::FailedPrecondition, "KEYRING_OLD"),
        UnsealError::TenantChoice => (Code::FailedPrecondition, "TENANT_CHOICE"),
        UnsealError::Log => (Code::DataLoss, "CORRUPT"),
        UnsealError::Store(_) => (Code::Unavailable, "STORE"),
        UnsealError::Commit(error) => (code(error), error.reason()),
    }
}

/// The stable reason of a vault that stays sealed, whoever wanted to open it.
pub(crate) fn reason_of(refused: &UnsealRefused) -> &'static str {
    match refused {
        UnsealRefused::Busy => Error::Exhausted(Exhausted::Busy).reason(),
        UnsealRefused::Denied => Error::Denied.reason(),
        UnsealRefused::Ceremony(fault) => fault.reason(),
        UnsealRefused::Entropy(_) | UnsealRefused::Bug => Error::Bug.reason(),
        UnsealRefused::Vault(error) => why_sealed(error).1,
    }
}

/// Why an RPC has no answer.
pub(super) enum Refusal {
    Core(Error),
    StaysSealed(UnsealError),
}

impl Refusal {
    /// The stable reason.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Core(error) => error.reason(),
            Self::StaysSealed(error) => why_sealed(error).1,
        }
    }

    /// What the caller is told.
    pub(super) fn status(&self) -> Status {
        match self {
            Self::Core(error) => status(error),
            Self::StaysSealed(error) => stays_sealed(error),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::Core(invalid.into())
    }
}

impl From<UnsealError> for Refusal {
    fn from(error: UnsealError) -> Self {
        Self::StaysSealed(error)
    }
}
