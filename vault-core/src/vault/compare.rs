//! Compare: whether a record ends in four given digits, without showing them.

use crate::audit::Entry;
use crate::data::{Secret, Token};
use crate::error::Error;
use crate::policy::Right;

use super::batch::Planning;
use super::outcome::Reply;
use super::prepare::Preparing;
use super::record::RecordRef;

/// A decided compare call.
pub(super) struct PreparedCompare {
    pub(super) record: RecordRef,
    last_four: Secret<[u8; 4]>,
}

impl Preparing<'_> {
    pub(super) fn compare(
        &self,
        token: Token,
        last_four: Secret<[u8; 4]>,
        draft: &mut Entry,
    ) -> Result<PreparedCompare, Error> {
        self.name_token(draft, &token);
        let grant = self.decide_class(Right::Compare, token.class(), None)?;
        Ok(PreparedCompare { record: self.record_ref(&grant, token)?, last_four })
    }
}

impl Planning<'_> {
    pub(super) fn compare(&mut self, work: &PreparedCompare, draft: &Entry) -> Result<Reply, Error> {
        let opened = match self.opened(&work.record, None, draft.at) {
            Ok(opened) => opened,
            Err(error) => return self.refuse(draft, error),
        };
        let mut entry = draft.clone();
        opened.describe(&mut entry);
        self.enter(&entry);
        Ok(Reply::Compared(opened.value.same_last_four(work.last_four.expose())))
    }
}
