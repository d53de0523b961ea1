//! What a committed call answers. Only the batch commit makes an [`Outcome`].

use std::sync::Arc;

use crate::audit::Receipt;
use crate::clock::Timestamp;
use crate::crypto::RecordState;
use crate::data::{Class, Masked, Token, Value};
use crate::error::Error;
use crate::policy::Grant;

/// The masked view of a record.
pub struct View {
    /// PAN or SSN.
    pub class: Class,
    /// As much of the digits as the caller may see.
    pub masked: Masked,
    /// Network brand of a PAN.
    pub brand: Option<crate::data::Brand>,
    /// Grows with every change of the record.
    pub record_version: u32,
    /// Active or inactive.
    pub state: RecordState,
    /// When the value was tokenized.
    pub created_at: Timestamp,
}

/// A released value and its record's facts.
pub struct Released {
    /// The plaintext; wiped when dropped.
    pub value: Value,
    /// Grows with every change of the record.
    pub record_version: u32,
    /// When the value was tokenized.
    pub created_at: Timestamp,
}

/// What a call that was not refused as a whole answers.
pub enum Reply {
    /// A token for each value, or why there is none.
    Tokenized(Vec<Result<Token, Error>>),
    /// A value for each token, or why there is none.
    Detokenized(Vec<Result<Released, Error>>),
    /// The masked view.
    Viewed(View),
    /// Whether the last four are the same.
    Compared(bool),
    /// The token of the value, if there is one.
    Found(Option<Token>),
    /// The record is gone.
    Erased,
    /// The call may go on: proofs, entries and sealing happen after their own entry is durable.
    Granted(Arc<Grant>),
}

/// The answer of one call, durable and audited.
pub struct Outcome {
    pub(super) result: Result<Reply, Error>,
    pub(super) receipts: Vec<Receipt>,
}

impl Outcome {
    /// An answer without an entry: the call never reached a commit, so nothing was written and nothing
    /// released.
    pub const fn unrecorded(error: Error) -> Self {
        Self { result: Err(error), receipts: Vec::new() }
    }

    /// The reply, or why the whole call was refused.
    pub fn result(&self) -> Result<&Reply, &Error> {
        self.result.as_ref()
    }

    /// Takes the reply out.
    ///
    /// # Errors
    /// Why the whole call was refused.
    pub fn into_result(self) -> Result<Reply, Error> {
        self.result
    }

    /// Takes reply and receipts out.
    pub fn into_parts(self) -> (Result<Reply, Error>, Vec<Receipt>) {
        (self.result, self.receipts)
    }

    /// One receipt an item, in order; a single one where one entry speaks for the whole call (a replay or a
    /// refusal); none where the call left no entry of its own.
    pub fn receipts(&self) -> &[Receipt] {
        &self.receipts
    }
}
