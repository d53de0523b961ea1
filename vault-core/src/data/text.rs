//! Text that callers give and the log keeps for ever.

use std::fmt;
use std::sync::Arc;

use crate::data::sensitive;
use crate::error::Invalid;
use crate::limits::CALLER_TEXT_BYTES_MAX;

/// A reference, idempotency key or case number: 1–64 of `A-Z a-z 0-9 . _ : / -`, screened so that neither
/// a card number nor an SSN enters the audit log by this way.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallerText(Arc<str>);

impl CallerText {
    /// Checks and takes a text.
    ///
    /// # Errors
    /// [`Invalid::SensitiveAuthenticationData`] for track data, [`Invalid::TextMalformed`] for any other
    /// character or length, [`Invalid::SensitiveText`] for what reads like a card number or SSN.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let seen = text.as_bytes().get(..4 * CALLER_TEXT_BYTES_MAX).unwrap_or(text.as_bytes());
        if sensitive::track_data(seen) {
            return Err(Invalid::SensitiveAuthenticationData);
        }
        let fits = (1..=CALLER_TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed);
        if !fits {
            return Err(Invalid::TextMalformed);
        }
        if sensitive::pan_like(text) || sensitive::ssn_like(text) {
            return Err(Invalid::SensitiveText);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'/' | b'-')
}
