//! What is wrong with a policy file, and where.

use std::fmt::{self, Write as _};

use thiserror::Error;

use crate::data::NameError;
use crate::limits::POLICY_ERROR_PATH_BYTES_MAX;

use super::identity::IdentityError;

/// Why a policy file was refused: the key's path (`principal[2].rights[0]`) or the file's, and the problem.
///
/// No value of the file is repeated: whoever names a key file as the policy by mistake does not find it in a
/// log.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{path}: {problem}")]
pub struct PolicyError {
    path: String,
    problem: Problem,
}

impl PolicyError {
    pub(super) fn new(path: impl AsRef<str>, problem: impl Into<Problem>) -> Self {
        Self { path: printable(path.as_ref()), problem: problem.into() }
    }

    /// Where: the path of a key, or of the file when the file itself is refused.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What.
    pub fn problem(&self) -> Problem {
        self.problem
    }
}

/// An unknown key stands in the path as the file wrote it: bounded here, and unable to break a line of the
/// log.
fn printable(path: &str) -> String {
    let mut shown = String::new();
    for character in path.chars() {
        if shown.len() >= POLICY_ERROR_PATH_BYTES_MAX {
            shown.push('…');
            break;
        }
        match character {
            ' '..='~' => shown.push(character),
            other => {
                // Writing to a String cannot fail.
                let _ = write!(shown, "{}", other.escape_unicode());
            }
        }
    }
    shown
}

/// What is wrong at a path.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Problem {
    /// The operating system refused to open or read it.
    #[error("cannot be read")]
    Unreadable,
    /// A folder, a pipe or a device.
    #[error("is not a plain file")]
    NotAFile,
    /// Whoever can write the policy decides who sees values.
    #[error("is writable by its group or by others")]
    WritableByOthers,
    /// Longer than the limit.
    #[error("is larger than {} bytes", crate::limits::POLICY_BYTES_MAX)]
    TooLarge,
    /// Not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// Not TOML, from this line on.
    #[error("is not valid TOML from line {line} on")]
    NotToml {
        /// The line, from 1.
        line: usize,
    },
    /// A key outside the vocabulary.
    #[error("is not a key of a policy")]
    UnknownKey,
    /// Another TOML type, or a number outside its range.
    #[error("has the wrong type or is out of range")]
    WrongType,
    /// A required key or table is not there.
    #[error("is missing")]
    Missing,
    /// A list or number that would mean nothing.
    #[error("is empty or zero")]
    Empty,
    /// A list with more entries than its limit.
    #[error("has more than {max} entries")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// A name outside its grammar.
    #[error("{0}")]
    Name(#[from] NameError),
    /// The name of something the vault has itself.
    #[error("is a name that the vault keeps for itself")]
    ReservedName,
    /// A second thing of the same name.
    #[error("is already the name of another")]
    NameTaken,
    /// The same entry twice in one list.
    #[error("is listed twice")]
    ListedTwice,
    /// A word outside a closed list.
    #[error("is not one of {0}")]
    NotOneOf(&'static str),
    /// Not 64 hexadecimal digits.
    #[error("is not a SHA-256 of 64 hexadecimal digits")]
    NotASha256,
    /// Names nobody exactly.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// Two principals that one certificate could mean.
    #[error("is the identity of another principal under the same or any CA")]
    IdentityTaken,
    /// A CA that the daemon does not have.
    #[error("is not the name of a configured client CA")]
    UnknownCa,
    /// With several client CAs each could vouch for this identity.
    #[error("is missing, and more than one client CA is configured")]
    CaMissing,
    /// A tenant that no table declares.
    #[error("is not the id of a tenant")]
    UnknownTenant,
    /// A purpose that no table declares.
    #[error("is not the id of a purpose")]
    UnknownPurpose,
    /// A recipient that no table declares.
    #[error("is not the id of a recipient")]
    UnknownRecipient,
    /// All tenants, for a role that touches values.
    #[error("must be one tenant: only auditors and custodians can act for all")]
    NotForAllTenants,
    /// A right that the role does not permit.
    #[error("is not permitted to this role")]
    OutsideRole,
    /// A class that the tenant does not keep.
    #[error("is not a class of the tenant")]
    OutsideTenant,
    /// A purpose that allows none of the classes.
    #[error("allows none of the principal's classes")]
    PurposeWithoutClass,
    /// A purpose that no listed recipient accepts.
    #[error("is accepted by none of the principal's recipients")]
    PurposeWithoutRecipient,
    /// A recipient that accepts no listed purpose.
    #[error("accepts none of the principal's purposes")]
    RecipientWithoutPurpose,
    /// A key that could have no effect, and so would promise what is not so.
    #[error("has no meaning with these rights")]
    WithoutEffect,
}

/// Where in the file: one table of an array.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) table: &'static str,
    pub(super) index: usize,
}

impl Place {
    pub(super) fn key(self, key: &str) -> String {
        format!("{self}.{key}")
    }

    pub(super) fn entry(self, key: &str, index: usize) -> String {
        format!("{self}.{key}[{index}]")
    }

    pub(super) fn error(self, key: &str, problem: impl Into<Problem>) -> PolicyError {
        PolicyError::new(self.key(key), problem)
    }

    /// The value of a key that cannot be left out.
    pub(super) fn required<'f, T>(self, key: &str, value: &'f Option<T>) -> Result<&'f T, PolicyError> {
        value.as_ref().ok_or_else(|| self.error(key, Problem::Missing))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.table, self.index)
    }
}
