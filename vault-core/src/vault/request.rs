//! What can be asked of the vault. A request holds checked values only: what does not parse never gets here,
//! except as the bad item of a batch, whose refusal is that item's outcome and entry.

use crate::audit::Action;
use crate::crypto::Purposes;
use crate::data::{CallerText, Class, Secret, TenantId, Token, Value};
use crate::error::{CeremonyFault, Invalid};
use crate::policy::Right;

/// One value to be tokenized.
pub struct NewValue {
    /// The PAN with what belongs to it, or the SSN.
    pub value: Value,
    /// Purposes the record is restricted to.
    pub purposes: Purposes,
    /// The caller's reference, for the audit entry.
    pub reference: Option<CallerText>,
}

/// One call. Batches and single calls are the same requests with more or fewer items.
pub enum Request {
    /// Values become tokens.
    Tokenize {
        /// The values, or why an item of a batch is none.
        items: Vec<Result<NewValue, Invalid>>,
        /// Repeating the call with this key and the same body gives the same outcome for 24 hours.
        idempotency_key: Option<CallerText>,
        /// Whether this is the batch call: keys of the two never meet.
        batch: bool,
    },
    /// Tokens become values again.
    Detokenize {
        /// The tokens, or why an item of a batch is none.
        items: Vec<Result<Token, Invalid>>,
        /// What the values are used for.
        purpose: String,
        /// To whom they go.
        recipient: String,
        /// The caller's reference: the transaction, invoice or case.
        reference: Option<CallerText>,
    },
    /// The masked view of a record and its dates.
    View {
        /// Whose record.
        token: Token,
        /// The caller's reference, for the audit entry.
        reference: Option<CallerText>,
    },
    /// Whether a record ends in these four digits.
    Compare {
        /// Whose record.
        token: Token,
        /// Four ASCII digits.
        last_four: Secret<[u8; 4]>,
        /// The caller's reference, for the audit entry.
        reference: Option<CallerText>,
    },
    /// The token of a value, where the tenant keeps an index.
    FindByValue {
        /// The value looked for.
        value: Value,
        /// The caller's reference, for the audit entry.
        reference: Option<CallerText>,
    },
    /// The record, its token and all that leads to them are removed.
    Erase {
        /// Whose record.
        token: Token,
        /// The caller's reference: the request or case.
        reference: Option<CallerText>,
    },
    /// The checkpoint and proofs over the log: hashes only.
    Prove,
    /// Entries of the log, of the caller's own tenant unless its scope is every tenant.
    ReadLog,
    /// The state of the vault.
    Status,
    /// To unseal a vault that is open: entered, and nothing changes. A sealed one is opened by
    /// [`SealedVault::unseal`](super::SealedVault::unseal).
    Unseal,
    /// A step of a ceremony on a vault that is open: entered as it ends.
    Ceremony {
        /// Which step.
        step: Action,
        /// Why it is refused, whoever takes it.
        refused: CeremonyFault,
    },
    /// Permission to seal the vault, recorded before it happens.
    Seal {
        /// Why.
        reason: Option<CallerText>,
    },
    /// Permission to change keys, recorded before it happens.
    Keys(KeyOrder),
}

/// What a custodian wants done with the keys of a tenant and class.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyOrder {
    /// Whose keys.
    pub tenant: TenantId,
    /// For which class of values.
    pub class: Class,
    /// The retired version to destroy; `None` to rotate.
    pub destroy: Option<u32>,
    /// Why.
    pub reason: CallerText,
}

impl Request {
    /// The right that the policy must give.
    pub const fn right(&self) -> Right {
        match self {
            Self::Tokenize { .. } => Right::Tokenize,
            Self::Detokenize { .. } => Right::Detokenize,
            Self::View { .. } => Right::View,
            Self::Compare { .. } => Right::Compare,
            Self::FindByValue { .. } => Right::FindByValue,
            Self::Erase { .. } => Right::Erase,
            Self::Prove => Right::Prove,
            Self::ReadLog => Right::AuditRead,
            Self::Status => Right::Status,
            Self::Unseal | Self::Ceremony { .. } => Right::Unseal,
            Self::Seal { .. } => Right::Seal,
            Self::Keys(KeyOrder { destroy: None, .. }) => Right::RotateKeys,
            Self::Keys(KeyOrder { destroy: Some(_), .. }) => Right::DestroyKeys,
        }
    }

    /// How much of a quota the call uses: one for each item.
    pub fn items(&self) -> usize {
        match self {
            Self::Tokenize { items, .. } => items.len(),
            Self::Detokenize { items, .. } => items.len(),
            _ => 1,
        }
    }
}
