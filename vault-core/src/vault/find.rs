//! Find by value: the token a value already has, where the tenant keeps a blind index.

use crate::audit::Entry;
use crate::data::{TenantId, Value};
use crate::error::{Error, State};
use crate::policy::Right;
use crate::store::Key;

use super::batch::Planning;
use super::open::Keys;
use super::outcome::Reply;
use super::prepare::Preparing;

/// A decided find call. The value is kept for the case that a rotation moves its index row meanwhile.
pub(super) struct PreparedFind {
    /// Where the value's index rows are.
    pub(super) index: Vec<Key>,
    tenant: TenantId,
    value: Value,
}

impl PreparedFind {
    /// The same call under the keys of now.
    pub(super) fn renewed(&self, keys: &Keys) -> Option<Self> {
        let value = Value::from_padded(self.value.class(), &self.value.to_padded()).ok()?;
        let tenant = self.tenant.clone();
        Some(Self { index: keys.index_keys(&tenant, &value), tenant, value })
    }
}

impl Preparing<'_> {
    pub(super) fn find(&self, value: Value, draft: &mut Entry) -> Result<PreparedFind, Error> {
        draft.class = Some(value.class());
        let grant = self.decide_class(Right::FindByValue, value.class(), None)?;
        let tenant = Self::tenant(&grant)?;
        if !self.is_indexed(&tenant) {
            return Err(Error::State(State::NoIndex));
        }
        let index = self.keys.index_keys(&tenant, &value);
        Ok(PreparedFind { index, tenant, value })
    }
}

impl Planning<'_> {
    pub(super) fn find(&mut self, work: &PreparedFind, draft: &Entry) -> Result<Reply, Error> {
        let found = match self.indexed(&work.index) {
            Ok(found) => found,
            Err(error) => return self.refuse(draft, error),
        };
        let mut entry = draft.clone();
        entry.token = found;
        self.enter(&entry);
        Ok(Reply::Found(found))
    }
}
