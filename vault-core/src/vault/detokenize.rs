//! Detokenize: a token goes in, the value comes out, for one purpose and to one recipient.

use std::sync::Arc;

use crate::audit::Entry;
use crate::data::{CallerText, Class, Token};
use crate::error::{Error, Invalid};
use crate::policy::{Ask, Grant, Right};
use crate::store::Key;

use super::batch::Planning;
use super::outcome::{Released, Reply};
use super::prepare::{Prepared, Preparing};
use super::record::RecordRef;

/// A decided detokenize call.
pub(super) struct PreparedDetokenize {
    items: Vec<PreparedItem>,
}

struct PreparedItem {
    entry: Entry,
    wanted: Result<Wanted, Error>,
}

/// A record that may be released, and under which grant.
struct Wanted {
    record: RecordRef,
    grant: Arc<Grant>,
}

/// Decisions of one call: the policy is asked once for each class.
struct Decisions {
    pan: Option<Result<Arc<Grant>, Error>>,
    ssn: Option<Result<Arc<Grant>, Error>>,
}

impl Decisions {
    const fn slot(&mut self, class: Class) -> &mut Option<Result<Arc<Grant>, Error>> {
        match class {
            Class::Pan => &mut self.pan,
            Class::Ssn => &mut self.ssn,
        }
    }

    /// Why the whole call is refused: every class it asks for is denied.
    fn denied(&self) -> Option<Error> {
        let made: Vec<_> = [&self.pan, &self.ssn].into_iter().flatten().collect();
        let denied = !made.is_empty() && made.iter().all(|decision| decision.is_err());
        denied.then_some(Error::Denied)
    }
}

impl Preparing<'_> {
    pub(super) fn detokenize(
        &mut self,
        items: Vec<Result<Token, Invalid>>,
        purpose: &str,
        recipient: &str,
        reference: Option<&CallerText>,
        draft: &mut Entry,
    ) -> Result<PreparedDetokenize, Error> {
        if let [Ok(token)] = items.as_slice() {
            // Whatever the call is refused for: its one entry says what it was about.
            self.name_token(draft, token);
        }
        let mut decisions = Decisions { pan: None, ssn: None };
        let asked = items.iter().flatten().map(Token::class);
        // Where no item names a class, the right is still needed for one.
        let unnamed = asked.clone().next().is_none();
        for class in asked.chain(Class::ALL.into_iter().filter(|_| unnamed)) {
            decisions.slot(class).get_or_insert_with(|| {
                self.decide(Ask {
                    right: Right::Detokenize,
                    class: Some(class),
                    purpose: Some(purpose),
                    recipient: Some(recipient),
                    reference: reference.cloned(),
                })
                .map(Arc::new)
            });
        }
        if let Some(error) = decisions.denied() {
            return Err(error);
        }
        let items = items
            .into_iter()
            .map(|item| self.wanted(item, &mut decisions, draft))
            .collect::<Result<_, _>>()?;
        Ok(PreparedDetokenize { items })
    }

    fn wanted(
        &mut self,
        item: Result<Token, Invalid>,
        decisions: &mut Decisions,
        draft: &Entry,
    ) -> Result<PreparedItem, Error> {
        let mut entry = draft.clone();
        self.entropy.fill(&mut entry.id).map_err(|_| Error::Bug)?;
        let token = match item {
            Ok(token) => token,
            Err(invalid) => return Ok(PreparedItem { entry, wanted: Err(invalid.into()) }),
        };
        self.name_token(&mut entry, &token);
        let wanted = match decisions.slot(token.class()) {
            Some(Ok(grant)) => {
                self.record_ref(grant, token).map(|record| Wanted { record, grant: Arc::clone(grant) })
            }
            Some(Err(error)) => Err(error.clone()),
            None => Err(Error::Bug),
        };
        Ok(PreparedItem { entry, wanted })
    }
}

impl PreparedDetokenize {
    pub(super) fn keys(&self, keys: &mut Vec<Key>) {
        for wanted in self.items.iter().filter_map(|item| item.wanted.as_ref().ok()) {
            keys.extend(wanted.record.key.iter().cloned());
        }
    }
}

impl Planning<'_> {
    pub(super) fn detokenize(&mut self, work: &PreparedDetokenize, call: &Prepared) -> Result<Reply, Error> {
        Ok(Reply::Detokenized(work.items.iter().map(|item| self.release(item, call)).collect()))
    }

    /// Releases one value, or says why not; either way there is an entry.
    fn release(&mut self, item: &PreparedItem, call: &Prepared) -> Result<Released, Error> {
        let wanted = match &item.wanted {
            Ok(wanted) => wanted,
            Err(error) => return self.refuse_item(&item.entry, error.clone()),
        };
        let charged = self.charge_distinct(&call.account, &wanted.record.token, call.at);
        let opened = charged.and_then(|()| self.opened(&wanted.record, wanted.grant.purpose(), call.at));
        match opened {
            Ok(opened) => {
                let mut entry = item.entry.clone();
                opened.describe(&mut entry);
                self.enter(&entry);
                let (record_version, created_at) = (opened.header.record_version, opened.header.created_at);
                Ok(Released { value: opened.value, record_version, created_at })
            }
            Err(error) => self.refuse_item(&item.entry, error),
        }
    }
}
