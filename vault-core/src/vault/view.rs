//! View: the masked digits and the record's dates, never the value.

use crate::audit::{Action, Entry};
use crate::data::{Class, Token, Truncation, Value};
use crate::error::Error;
use crate::policy::Right;

use super::batch::Planning;
use super::outcome::{Reply, View};
use super::prepare::Preparing;
use super::record::RecordRef;

/// A decided view call.
pub(super) struct PreparedView {
    pub(super) record: RecordRef,
    truncation: Truncation,
}

impl Preparing<'_> {
    pub(super) fn view(&self, token: Token, draft: &mut Entry) -> Result<PreparedView, Error> {
        self.name_token(draft, &token);
        let grant = self.decide_class(Right::View, token.class(), draft.reference.clone())?;
        let record = self.record_ref(&grant, token)?;
        let truncation = self.truncation(&record);
        if token.class() == Class::Pan && matches!(truncation, Truncation::BinLastFour) {
            draft.action = Action::ViewBin;
        }
        Ok(PreparedView { record, truncation })
    }

    /// The tenant's one truncation, its BIN only for those whose right it is.
    fn truncation(&self, record: &RecordRef) -> Truncation {
        let tenant = self.policy.tenant(&record.tenant).map(|tenant| tenant.truncation());
        let bin = self.decide_class(Right::ViewBin, record.token.class(), None).is_ok();
        match tenant {
            Some(Truncation::BinLastFour) if bin => Truncation::BinLastFour,
            _ => Truncation::LastFour,
        }
    }
}

impl Planning<'_> {
    pub(super) fn view(&mut self, work: &PreparedView, draft: &Entry) -> Result<Reply, Error> {
        let opened = match self.opened(&work.record, None, draft.at) {
            Ok(opened) => opened,
            Err(error) => return self.refuse(draft, error),
        };
        let mut entry = draft.clone();
        opened.describe(&mut entry);
        self.enter(&entry);
        let brand = match &opened.value {
            Value::Pan(card) => Some(card.pan.brand()),
            Value::Ssn(_) => None,
        };
        Ok(Reply::Viewed(View {
            class: opened.value.class(),
            masked: opened.value.mask(work.truncation),
            brand,
            record_version: opened.header.record_version,
            state: opened.header.state,
            created_at: opened.header.created_at,
        }))
    }
}
