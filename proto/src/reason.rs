//! What a refused call says for machines: `google.rpc.ErrorInfo` and `google.rpc.RetryInfo` in its status.

use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt as _;

/// The domain of every `google.rpc.ErrorInfo` that a vault sends.
pub const ERROR_DOMAIN: &str = "vault.v1";

/// The stable reason, such as `PAN_LUHN`, that the vault gave. `None` for statuses that carry none: those of
/// the transport and of gRPC itself (message too large or undecodable, unknown RPC), and those of other
/// servers.
pub fn reason(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == ERROR_DOMAIN).then_some(info.reason)
}

/// How long to wait before asking again, where waiting helps and the vault knows how long.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    fn status(domain: &str) -> Status {
        let mut details = ErrorDetails::with_error_info("PAN_LUHN", domain, HashMap::new());
        details.set_retry_info(Some(Duration::from_secs(7)));
        Status::with_error_details(Code::InvalidArgument, "the check digit is wrong", details)
    }

    #[test]
    fn the_vaults_reason_is_read() {
        assert_eq!(reason(&status(ERROR_DOMAIN)).as_deref(), Some("PAN_LUHN"));
        assert_eq!(retry_after(&status(ERROR_DOMAIN)), Some(Duration::from_secs(7)));
    }

    #[test]
    fn reasons_of_others_are_not_taken_for_the_vaults() {
        assert_eq!(reason(&status("example.org")), None);
    }

    #[test]
    fn a_status_without_details_has_no_reason() {
        let bare = Status::unimplemented("");
        assert_eq!((reason(&bare), retry_after(&bare)), (None, None));
    }
}
