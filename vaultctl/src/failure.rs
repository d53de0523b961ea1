//! Why a command gave no answer, and the exit code that says so.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the vault refused, or a proof does not hold; the reason is printed |
//! | 2 | the command, a file or the terminal; or the vault's answer could not be written |
//! | 3 | no vault was reached, or the connection to it broke |

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use thiserror::Error;
use tonic::{Code, Status};
use vault_proto::ConnectError;

use crate::output::clean;

/// Why there is no answer. Messages name files and reasons, never what a file or a prompt held.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The vault said no.
    #[error("refused: {reason}: {message}")]
    Refused {
        /// The stable reason, or the gRPC code of a status without one.
        reason: String,
        /// The vault's words.
        message: String,
    },
    /// Some rows of a batch were refused; each says why.
    #[error("{refused} of {rows} rows were refused; the output says why")]
    RowsRefused {
        /// How many.
        refused: u64,
        /// Of how many.
        rows: u64,
    },
    /// What the vault, or a file, shows does not prove what it should.
    #[error("not proven: {0}")]
    Unproven(String),
    /// The command line, a file or the terminal.
    #[error("{0}")]
    Usage(String),
    /// Nobody there, or nobody who may be trusted.
    #[error("no vault reached: {0}")]
    Unreachable(ConnectError),
}

impl Failure {
    /// What the caller can put right.
    pub(crate) fn usage(problem: impl Into<String>) -> Self {
        Self::Usage(problem.into())
    }

    /// A file that cannot be read or written.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::Usage(format!("{}: {error}", path.display()))
    }

    /// Prints it, and says how the process ends.
    pub(crate) fn report(&self) -> ExitCode {
        complain(&self.to_string());
        ExitCode::from(self.exit_code())
    }

    const fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::RowsRefused { .. } | Self::Unproven(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match vault_proto::reason(&status) {
            Some(reason) => Self::Refused { reason, message: status.message().to_owned() },
            None => Self::without_reason(&status),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::EndpointMalformed
            | ConnectError::ServerNameMalformed
            | ConnectError::Ca
            | ConnectError::Certificate
            | ConnectError::Key
            | ConnectError::File { .. } => Self::Usage(error.to_string()),
            _ => Self::Unreachable(error),
        }
    }
}

impl Failure {
    /// A status of the transport or of gRPC itself.
    fn without_reason(status: &Status) -> Self {
        match (ConnectError::of(status), status.code()) {
            (Some(error), _) => Self::from(error),
            (None, Code::Unavailable | Code::Cancelled) => Self::Unreachable(ConnectError::Broken),
            // The vault gives a reason beside its own: this is nobody's refusal, and the outcome is unknown.
            (None, Code::DeadlineExceeded) => Self::Unreachable(ConnectError::TimedOut),
            (None, code) => {
                Self::Refused { reason: format!("{code:?}"), message: status.message().to_owned() }
            }
        }
    }
}

/// A line for people, on standard error.
pub(crate) fn complain(line: &str) {
    // Without standard error there is nobody left to tell.
    let _ = writeln!(io::stderr(), "vaultctl: {}", clean(line).as_str());
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn a_refusal_shows_the_vaults_reason_and_ends_with_1() {
        let details = ErrorDetails::with_error_info("PAN_LUHN", "vault.v1", HashMap::new());
        let status = Status::with_error_details(Code::InvalidArgument, "the check digit is wrong", details);
        let failure = Failure::from(status);
        assert_eq!(failure.to_string(), "refused: PAN_LUHN: the check digit is wrong");
        assert_eq!(failure.exit_code(), 1);
    }

    #[test]
    fn a_status_without_a_reason_shows_its_code() {
        let failure = Failure::from(Status::unimplemented("unknown method"));
        assert_eq!(
            (failure.to_string().as_str(), failure.exit_code()),
            ("refused: Unimplemented: unknown method", 1)
        );
    }

    #[test]
    fn a_vault_that_is_not_there_ends_with_3_and_a_bad_key_file_with_2() {
        assert_eq!(Failure::from(ConnectError::TimedOut).exit_code(), 3);
        assert_eq!(Failure::from(ConnectError::CertificateRefused).exit_code(), 3);
        assert_eq!(Failure::from(Status::unavailable("gone")).exit_code(), 3);
        assert_eq!(Failure::from(Status::deadline_exceeded("no answer")).exit_code(), 3);
        assert_eq!(Failure::from(ConnectError::Key).exit_code(), 2);
    }
}
