//! Erase: a record and every row that leads to it go in one commit.
//!
//! Which rows those are only the record's value tells: its blind-index rows under every key version, and, by
//! their traces, the idempotency rows whose outcome was this token. So they are read in a second round, after
//! the records themselves and before the batch is planned.

use std::collections::HashMap;

use crate::audit::Entry;
use crate::crypto::Envelope;
use crate::data::{Token, Value};
use crate::error::{Error, Unavailable};
use crate::limits::{ERASE_ROWS_MAX, SCAN_ROWS_MAX};
use crate::policy::Right;
use crate::store::{Fault, Key, Space, Store};

use super::batch::Planning;
use super::idempotency::{remembers, trace_start, traced};
use super::open::Keys;
use super::outcome::Reply;
use super::overlay::Overlay;
use super::prepare::{Prepared, Preparing, Work};
use super::record::{Opened, RecordRef};

/// Rows that the first look for traces asks for: nearly all tokens have one at most, and what follows it is
/// of others.
const FEW_ROWS: usize = 8;

/// A decided erase call.
pub(super) struct PreparedErase {
    pub(super) record: RecordRef,
}

/// What the records that a batch erases lead to, by their tokens.
pub(super) type Around = HashMap<Token, Led>;

/// The idempotency rows that have one token for an outcome.
#[derive(Default)]
pub(super) struct Led {
    /// Each trace, and the row that it leads to.
    pub(super) traces: Vec<(Key, Key)>,
    /// There are more than this batch has room for: these go now, the record when the call is repeated.
    is_cut: bool,
    /// A trace does not authenticate, so that nobody knows what else should go.
    is_damaged: bool,
}

impl Preparing<'_> {
    pub(super) fn erase(&self, token: Token, draft: &mut Entry) -> Result<PreparedErase, Error> {
        self.name_token(draft, &token);
        let grant = self.decide_class(Right::Erase, token.class(), draft.reference.clone())?;
        Ok(PreparedErase { record: self.record_ref(&grant, token)? })
    }
}

/// Reads what only the records to be erased lead to; `None` for a batch that erases nothing.
pub(super) fn read_around(
    calls: &[&Prepared],
    keys: &Keys,
    store: &dyn Store,
    overlay: &mut Overlay,
) -> Result<Option<Around>, Fault> {
    let mut around = None;
    let mut room = ERASE_ROWS_MAX;
    for call in calls {
        if let Work::Erase(PreparedErase { record }) = &call.work {
            let around: &mut Around = around.get_or_insert_default();
            let Some(value) = stored_value(record, keys, overlay) else { continue };
            overlay.read_also(store, keys.all_index_keys(&record.tenant, &value))?;
            let led = led_to(record, keys, store, overlay, room)?;
            room = room.saturating_sub(2 * led.traces.len());
            around.insert(record.token, led);
        }
    }
    Ok(around)
}

/// The value of a record in the snapshot. One that does not decrypt is refused when it is planned.
fn stored_value(record: &RecordRef, keys: &Keys, overlay: &Overlay) -> Option<Value> {
    let row = overlay.value(record.key.as_ref()?).ok()??;
    let envelope = Envelope::from_bytes(row).ok()?;
    keys.decrypted(&record.tenant, &record.token, &envelope).ok()
}

/// Finds and reads a token's traces and the rows they lead to, at most `room` in all.
fn led_to(
    record: &RecordRef,
    keys: &Keys,
    store: &dyn Store,
    overlay: &mut Overlay,
    room: usize,
) -> Result<Led, Fault> {
    let start = trace_start(&record.token);
    let (mut led, mut after, mut limit) = (Led::default(), start.clone(), FEW_ROWS);
    loop {
        let rows = store.scan(Space::Idempotency, Some(&record.tenant), Some(&after), limit)?;
        limit = SCAN_ROWS_MAX;
        let ours = rows.into_iter().take_while(|(key, _)| key.bytes().starts_with(&start));
        let before = led.traces.len();
        for (trace, row) in ours {
            if 2 * led.traces.len() + 2 > room {
                led.is_cut = true;
                break;
            }
            after = trace.bytes().to_vec();
            match traced(keys, &record.tenant, &trace, &row.value) {
                Some(outcome) => led.traces.push((trace.clone(), outcome)),
                None => led.is_damaged = true,
            }
            overlay.admit(trace, row);
        }
        if led.is_cut || led.is_damaged || led.traces.len() == before {
            overlay.read_also(store, led.traces.iter().map(|(_, outcome)| outcome.clone()).collect())?;
            return Ok(led);
        }
    }
}

impl Planning<'_> {
    pub(super) fn erase(&mut self, work: &PreparedErase, draft: &Entry) -> Result<Reply, Error> {
        let record = &work.record;
        let opened = match self.decrypted(record) {
            Ok(opened) => opened,
            Err(error) => return self.refuse(draft, error),
        };
        let led = self.around.as_mut().and_then(|around| around.remove(&record.token)).unwrap_or_default();
        let leading = match self.leading(record, &led, &opened) {
            Ok(leading) => leading,
            Err(error) => return self.refuse(draft, error),
        };
        if led.is_cut {
            let going = leading.iter().filter(|key| key.space() == Space::Idempotency);
            going.for_each(|key| self.overlay.delete(key));
            // No entry: the record is still there, and so is the token.
            return Err(Error::Unavailable(Unavailable::Store));
        }
        leading.iter().chain(&record.key).for_each(|key| self.overlay.delete(key));
        let mut entry = draft.clone();
        opened.describe(&mut entry);
        self.enter(&entry);
        Ok(Reply::Erased)
    }

    /// The rows that lead to a record, each only if it does so now: a value could have got another token
    /// since, an idempotency key another outcome.
    fn leading(&self, record: &RecordRef, led: &Led, opened: &Opened) -> Result<Vec<Key>, Error> {
        if led.is_damaged {
            return Err(Error::Corrupt);
        }
        let mut leading = Vec::new();
        for (trace, outcome) in &led.traces {
            leading.push(trace.clone());
            let row = self.row(outcome)?;
            if row.map(|row| remembers(row, &record.token)).transpose()?.unwrap_or(false) {
                leading.push(outcome.clone());
            }
        }
        for key in self.keys.all_index_keys(&record.tenant, &opened.value) {
            if self.row(&key)? == Some(&record.token.to_bytes()) {
                leading.push(key);
            }
        }
        Ok(leading)
    }
}
