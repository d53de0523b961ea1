//! Names of the things that policy speaks of, and the vault's own name. None of them is secret.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::limits::NAME_BYTES_MAX;

/// A name that does not fit `[a-z0-9][a-z0-9-]{0,31}`.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a name has 1 to 32 characters of a-z 0-9 - and does not begin with a hyphen")]
pub struct NameError;

fn checked(text: &str) -> Result<Arc<str>, NameError> {
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits { Ok(text.into()) } else { Err(NameError) }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a name: 1–32 of `a-z 0-9 -`, not beginning with a hyphen.
            ///
            /// # Errors
            /// [`NameError`] when the text is anything else.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                checked(text).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// Whose data it is. Every record, index and key belongs to exactly one tenant.
    TenantId,
    /// Who calls: one client certificate identity in the policy.
    PrincipalId,
    /// What the data is used for.
    PurposeId,
    /// To whom the data goes.
    RecipientId,
    /// Where the vault runs (`prod`, `staging`, `dev`): keys of one never open another (PCI DSS 3.6.1.1).
    Environment,
}

/// The vault's own identity: 128 random bits drawn at `init`, bound into every record, row and token tag.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VaultId([u8; 16]);

impl VaultId {
    /// From its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
