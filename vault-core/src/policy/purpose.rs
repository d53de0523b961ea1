//! What data is used for, and to whom it goes.

use super::tenant::Classes;
use crate::data::{PurposeId, RecipientId};

/// One use of data, as its owners were told of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Purpose {
    pub(super) id: PurposeId,
    pub(super) version: u32,
    pub(super) classes: Classes,
    pub(super) text_sha256: [u8; 32],
}

impl Purpose {
    /// Its name.
    pub fn id(&self) -> &PurposeId {
        &self.id
    }

    /// Which version of its text is in force, from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The classes that may be used for it.
    pub fn classes(&self) -> Classes {
        self.classes
    }

    /// SHA-256 of the text that describes the purpose to the data's owners; the text itself is kept
    /// elsewhere.
    pub fn text_sha256(&self) -> &[u8; 32] {
        &self.text_sha256
    }
}

/// One party that receives data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recipient {
    pub(super) id: RecipientId,
    pub(super) purposes: Vec<PurposeId>,
}

impl Recipient {
    /// Its name.
    pub fn id(&self) -> &RecipientId {
        &self.id
    }

    /// The purposes for which it may receive data, in order of name.
    pub fn purposes(&self) -> &[PurposeId] {
        &self.purposes
    }

    /// Whether it may receive data for this purpose.
    pub fn accepts(&self, purpose: &PurposeId) -> bool {
        self.purposes.binary_search(purpose).is_ok()
    }
}
