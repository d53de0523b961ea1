//! Find by value: the token a value already has, where the tenant keeps a blind index.

use crate::audit::Entry;
use crate::data::Value;
use crate::error::{Error, State};
use crate::policy::Right;
use crate::store::Key;

use super::batch::Planning;
use super::outcome::Reply;
use super::prepare::Preparing;

/// A decided find call: where the value's index rows are. The value itself is gone.
pub(super) struct PreparedFind {
    pub(super) index: Vec<Key>,
}

impl Preparing<'_> {
    pub(super) fn find(&self, value: &Value, draft: &mut Entry) -> Result<PreparedFind, Error> {
        draft.class = Some(value.class());
        let grant = self.decide_class(Right::FindByValue, value.class(), None)?;
        let index = self.index_keys(&Self::tenant(&grant)?, value)?;
        if index.is_empty() {
            return Err(Error::State(State::NoIndex));
        }
        Ok(PreparedFind { index })
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
