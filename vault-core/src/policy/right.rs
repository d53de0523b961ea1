//! What a principal may do: a closed list, so that a new right cannot be added without deciding who holds it.

/// One thing a principal may do. A policy file names rights by [`Right::as_str`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Right {
    /// Give a value, receive a token.
    Tokenize = 1,
    /// Receive the value behind a token, for a purpose, a recipient and a reference.
    Detokenize = 2,
    /// See a masked value and its metadata: the last four at most.
    View = 3,
    /// See the BIN beside the last four, where the tenant's truncation shows it.
    ViewBin = 4,
    /// Learn whether four digits are the last four of a value.
    Compare = 5,
    /// Learn the token of a value already known.
    FindByValue = 6,
    /// Receive proof that an entry is in the audit log.
    Prove = 7,
    /// Read entries of the audit log.
    AuditRead = 8,
    /// Learn the vault's state.
    Status = 9,
    /// Give what unwraps the root key.
    Unseal = 10,
    /// Have the keys wiped from memory.
    Seal = 11,
    /// Remove expired rows. Only the vault itself, as background work.
    Sweep = 12,
    /// Prove the store against the audit log. Only the vault itself, as background work.
    Check = 13,
    /// Remove a value, its token and all that leads to it, for ever, under a reference.
    Erase = 14,
    /// Encrypt old records under the key of now. Only the vault itself, as background work.
    Rewrap = 15,
    /// Have the next key version of a tenant and class encrypt.
    RotateKeys = 16,
    /// Have a retired key version destroyed, once nothing needs it.
    DestroyKeys = 17,
}

impl Right {
    /// Every right, in the order of their codes.
    pub const ALL: [Self; 17] = [
        Self::Tokenize,
        Self::Detokenize,
        Self::View,
        Self::ViewBin,
        Self::Compare,
        Self::FindByValue,
        Self::Prove,
        Self::AuditRead,
        Self::Status,
        Self::Unseal,
        Self::Seal,
        Self::Sweep,
        Self::Check,
        Self::Erase,
        Self::Rewrap,
        Self::RotateKeys,
        Self::DestroyKeys,
    ];

    /// Its name in a policy file and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokenize => "tokenize",
            Self::Detokenize => "detokenize",
            Self::View => "view",
            Self::ViewBin => "view-bin",
            Self::Compare => "compare",
            Self::FindByValue => "find-by-value",
            Self::Prove => "prove",
            Self::AuditRead => "audit-read",
            Self::Status => "status",
            Self::Unseal => "unseal",
            Self::Seal => "seal",
            Self::Sweep => "sweep",
            Self::Check => "check",
            Self::Erase => "erase",
            Self::Rewrap => "rewrap",
            Self::RotateKeys => "rotate-keys",
            Self::DestroyKeys => "destroy-keys",
        }
    }

    /// The right of this name, the vault's own (`sweep`, `check`, `rewrap`) included.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.as_str() == text)
    }

    /// Whether it concerns a value or its token, and therefore always a class.
    pub const fn concerns_values(self) -> bool {
        Rights::OF_VALUES.contains(self)
    }
}

/// A set of rights, one bit each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rights(u32);

impl Rights {
    /// No right at all.
    pub const NONE: Self = Self(0);
    /// The rights that concern a value or its token.
    pub const OF_VALUES: Self = Self::NONE
        .with(Right::Tokenize)
        .with(Right::Detokenize)
        .with(Right::View)
        .with(Right::ViewBin)
        .with(Right::Compare)
        .with(Right::FindByValue)
        .with(Right::Erase);

    /// This set and one right more.
    #[must_use]
    pub const fn with(self, right: Right) -> Self {
        Self(self.0 | 1 << right as u8)
    }

    /// Whether the right is in the set.
    pub const fn contains(self, right: Right) -> bool {
        self.0 & 1 << right as u8 != 0
    }

    /// Whether the two sets share a right.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The rights of the set, in the order of their codes.
    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.into_iter().filter(move |right| self.contains(*right))
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        rights.into_iter().fold(Self::NONE, Self::with)
    }
}
