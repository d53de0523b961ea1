//! A batch: calls planned one after another over one snapshot, then one commit.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::audit::{Entry, LeafHash, LogWriter, Outcome as Recorded, Receipt, Staged};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::error::{Error, State, Unavailable};
use crate::limits::CONFLICT_RETRIES_MAX;
use crate::store::{Commit, Fault, Key, Writes, rows};

use super::erase::{self, Around};
use super::open::{Health, Keys, Lane, Vault};
use super::outcome::{Outcome, Reply};
use super::overlay::Overlay;
use super::prepare::{Prepared, Work, refusal};
use super::quota::{Account, Charge, Counters};
use super::seen::{ByScope, Counting, Rows as SeenRows, Seen, seen_key};

/// A batch while it is planned: what was read, what will be written, what the log will say.
pub(super) struct Planning<'a> {
    pub(super) keys: &'a Keys,
    pub(super) overlay: Overlay,
    pub(super) counters: Counters,
    /// What is counted against the distinct tokens of a day; none where no call is.
    pub(super) counting: Option<Counting<'a>>,
    pub(super) entropy: &'a mut dyn Entropy,
    /// What the records that this batch erases lead to; `None` where it erases nothing.
    pub(super) around: Option<Around>,
    entries: Vec<(Vec<u8>, LeafHash)>,
}

/// What a batch comes to.
pub(super) struct Plan {
    pub(super) writes: Writes,
    /// Encoded, each with its leaf hash.
    pub(super) entries: Vec<(Vec<u8>, LeafHash)>,
    /// Tokens that count against their day from now on.
    fresh: ByScope,
}

/// A planned call: what it will answer once its entries are durable.
struct Planned {
    result: Result<Reply, Error>,
    entries: Range<usize>,
}

/// How one attempt to commit ended.
enum Attempt {
    Done(Vec<Outcome>),
    Conflict,
    Fault(Error),
}

impl Vault {
    /// Plans and commits calls as one batch, in the order given; one outcome a call, in the same order.
    ///
    /// Callers serialise themselves on the lane: a second caller waits until the first has committed.
    pub fn commit(&self, calls: &[Prepared], entropy: &mut dyn Entropy) -> Vec<Outcome> {
        let mut lane = self.lane();
        let attempt = match lane.health {
            Health::Serving => self.commit_with_retries(&mut lane, calls, entropy),
            Health::Suspended => Attempt::Fault(Error::Unavailable(Unavailable::Store)),
            Health::MustSeal => Attempt::Fault(Error::State(State::Sealed)),
        };
        match attempt {
            Attempt::Done(outcomes) => outcomes,
            Attempt::Conflict => refuse_all(calls, &Error::Unavailable(Unavailable::Store)),
            Attempt::Fault(error) => refuse_all(calls, &error),
        }
    }

    fn commit_with_retries(&self, lane: &mut Lane, calls: &[Prepared], entropy: &mut dyn Entropy) -> Attempt {
        for retry in 0..=CONFLICT_RETRIES_MAX {
            match self.attempt(lane, calls, retry > 0, entropy) {
                Attempt::Conflict => {}
                ended => return ended,
            }
        }
        Attempt::Conflict
    }

    /// One attempt. After a conflict the keys of inserted rows and the log head are read too, so that the
    /// call that collides is found and a forked log is noticed.
    fn attempt(
        &self,
        lane: &mut Lane,
        calls: &[Prepared],
        after_conflict: bool,
        entropy: &mut dyn Entropy,
    ) -> Attempt {
        let keys = self.keys();
        let renewed = renewed(calls, &keys, entropy);
        let calls: Vec<&Prepared> =
            calls.iter().enumerate().map(|(at, call)| renewed.get(&at).unwrap_or(call)).collect();
        let mut wanted = wanted(&calls, after_conflict);
        if after_conflict {
            wanted.push(lane.head_key.clone());
        }
        let read = Overlay::read(self.store(), wanted).and_then(|mut overlay| {
            let around = erase::read_around(&calls, &keys, self.store(), &mut overlay)?;
            Ok((overlay, around))
        });
        let (overlay, around) = match read {
            Ok(read) => read,
            Err(fault) => return self.read_fault(lane, &fault),
        };
        if after_conflict && overlay.value(&lane.head_key) != Ok(Some(lane.head.as_slice())) {
            // Someone else wrote this log: two histories of one origin.
            self.must_seal(lane);
            return Attempt::Fault(Error::State(State::Sealed));
        }
        let day = match self.counted_day(&mut lane.seen, &keys, &calls) {
            Ok(day) => day,
            Err(fault) => return self.read_fault(lane, &fault),
        };
        let mut planning = Planning::over(&keys, overlay, entropy);
        planning.counting = day.map(|day| Counting { day, seen: &lane.seen, fresh: ByScope::default() });
        planning.around = around;
        let planned: Vec<Planned> = calls.iter().map(|call| planning.call(call)).collect();
        planning.flush_counters();
        planning.put_seen(&lane.log);
        let Plan { writes, entries, fresh } = planning.into_plan();
        self.commit_planned(lane, planned, writes, &entries, fresh)
    }

    /// The day that the tokens of these calls count against, if they count at all.
    fn counted_day(&self, seen: &mut Seen, keys: &Keys, calls: &[&Prepared]) -> Result<Option<u64>, Fault> {
        let counts =
            |call: &&&Prepared| matches!(call.work, Work::Detokenize(_)) && call.account.counts_tokens();
        let Some(today) = calls.iter().filter(counts).map(|call| call.at.day()).max() else {
            return Ok(None);
        };
        let (mac, vault_id) = (keys.keyring.row_mac(), keys.keyring.vault_id());
        let rows =
            SeenRows { store: self.store(), mac, vault_id, origin: self.origin(), damaged: &self.damaged };
        seen.begin(today, &rows).map(Some)
    }

    fn commit_planned(
        &self,
        lane: &mut Lane,
        planned: Vec<Planned>,
        mut writes: Writes,
        entries: &[(Vec<u8>, LeafHash)],
        fresh: ByScope,
    ) -> Attempt {
        let leaves: Vec<LeafHash> = entries.iter().map(|(_, leaf)| *leaf).collect();
        if entries.is_empty() {
            return self.commit_counters(lane, planned, &writes);
        }
        let Ok(staged) = lane.log.stage(entries) else {
            return Attempt::Fault(Error::Bug);
        };
        lane.add_log_writes(&staged, &mut writes);
        match self.store().commit(&writes) {
            Ok(Commit::Done) => {
                let first = staged.first_index;
                self.accept(lane, staged);
                lane.seen.accept(fresh);
                Attempt::Done(self.outcomes(planned, first, &leaves))
            }
            Ok(Commit::Conflict) => Attempt::Conflict,
            Err(fault) => self.commit_fault(lane, &fault, staged),
        }
    }

    /// A batch of refusals beyond their quota: counted, durable, without entries of their own.
    fn commit_counters(&self, lane: &mut Lane, planned: Vec<Planned>, writes: &Writes) -> Attempt {
        match self.store().commit(writes) {
            Ok(Commit::Done) => Attempt::Done(self.outcomes(planned, 0, &[])),
            Ok(Commit::Conflict) => Attempt::Conflict,
            Err(fault) => self.read_fault(lane, &fault),
        }
    }

    fn outcomes(&self, planned: Vec<Planned>, first: u64, leaves: &[LeafHash]) -> Vec<Outcome> {
        let receipt = |position: usize| {
            let leaf_hash = *leaves.get(position)?;
            Some(Receipt { origin: self.origin().clone(), index: first + position as u64, leaf_hash })
        };
        let outcome = |planned: Planned| Outcome {
            result: planned.result,
            receipts: planned.entries.filter_map(receipt).collect(),
        };
        planned.into_iter().map(outcome).collect()
    }

    fn read_fault(&self, lane: &mut Lane, fault: &Fault) -> Attempt {
        match fault {
            Fault::Corrupt(_) => self.must_seal(lane),
            Fault::Unavailable(_) | Fault::Unknown(_) | Fault::Misuse(_) => self.suspend(lane, None),
        }
        Attempt::Fault(Error::Unavailable(Unavailable::Store))
    }

    fn commit_fault(&self, lane: &mut Lane, fault: &Fault, staged: Staged) -> Attempt {
        match fault {
            Fault::Misuse(_) => Attempt::Fault(Error::Bug),
            Fault::Unavailable(_) => {
                self.suspend(lane, None);
                Attempt::Fault(Error::Unavailable(Unavailable::Store))
            }
            Fault::Unknown(_) => {
                self.suspend(lane, Some(staged));
                Attempt::Fault(Error::Unavailable(Unavailable::OutcomeUnknown))
            }
            Fault::Corrupt(_) => {
                self.must_seal(lane);
                Attempt::Fault(Error::Unavailable(Unavailable::OutcomeUnknown))
            }
        }
    }
}

fn refuse_all(calls: &[Prepared], error: &Error) -> Vec<Outcome> {
    calls.iter().map(|_| Outcome::unrecorded(error.clone())).collect()
}

/// The calls that were prepared before the keyring last changed, under the keys of now, by their place.
fn renewed(calls: &[Prepared], keys: &Keys, entropy: &mut dyn Entropy) -> HashMap<usize, Prepared> {
    let generation = keys.keyring.generation();
    let stale = calls.iter().enumerate().filter(|(_, call)| call.generation != generation);
    stale.filter_map(|(at, call)| Some((at, call.renewed(keys, entropy)?))).collect()
}

/// Every row that planning these calls reads; the counters of an account once for all of its calls.
fn wanted(calls: &[&Prepared], after_conflict: bool) -> Vec<Key> {
    let mut keys = Vec::with_capacity(calls.len());
    let mut accounts = HashSet::new();
    for call in calls {
        call.keys(after_conflict, &mut keys);
        if accounts.insert(Arc::as_ptr(&call.account)) {
            keys.extend(call.account.counters().cloned());
        }
    }
    keys
}

impl Prepared {
    /// Every row that planning this call reads, but for those of its account.
    fn keys(&self, after_conflict: bool, keys: &mut Vec<Key>) {
        match &self.work {
            Work::Tokenize(call) => call.keys(after_conflict, keys),
            Work::Detokenize(call) => call.keys(keys),
            Work::View(call) => keys.extend(call.record.key.clone()),
            Work::Compare(call) => keys.extend(call.record.key.clone()),
            Work::Find(call) => keys.extend(call.index.iter().cloned()),
            Work::Erase(call) => keys.extend(call.record.key.clone()),
            Work::Refused(_) | Work::Granted(_) => {}
        }
    }
}

impl<'a> Planning<'a> {
    pub(super) fn over(keys: &'a Keys, overlay: Overlay, entropy: &'a mut dyn Entropy) -> Self {
        let counters = Counters::default();
        Self { keys, overlay, counters, counting: None, entropy, around: None, entries: Vec::new() }
    }

    pub(super) fn into_plan(self) -> Plan {
        let fresh = self.counting.map(|counting| counting.fresh).unwrap_or_default();
        Plan { writes: self.overlay.into_writes(), entries: self.entries, fresh }
    }
}

impl Planning<'_> {
    /// Plans one call: quota first, since refusals count too, then the work itself.
    fn call(&mut self, call: &Prepared) -> Planned {
        let charged = self.charge(&call.account, call.items, call.at);
        // A summary of the minute before is no entry of this call.
        let start = self.entries.len();
        let result = match charged {
            Ok(Charge::Paid) => self.work(call),
            Ok(Charge::Refused { error, entry }) => {
                // A stranger over its limit still only learns that it is denied.
                let error = if call.principal().is_none() { Error::Denied } else { error };
                if entry { self.refuse(&call.draft, error) } else { Err(error) }
            }
            Err(error) => self.refuse(&call.draft, error),
        };
        Planned { result, entries: start..self.entries.len() }
    }

    fn work(&mut self, call: &Prepared) -> Result<Reply, Error> {
        match &call.work {
            Work::Refused(error) => self.refuse(&call.draft, error.clone()),
            Work::Tokenize(work) => self.tokenize(work, call),
            Work::Detokenize(work) => self.detokenize(work, call),
            Work::View(work) => self.view(work, &call.draft),
            Work::Compare(work) => self.compare(work, &call.draft),
            Work::Find(work) => self.find(work, &call.draft),
            Work::Erase(work) => self.erase(work, &call.draft),
            Work::Granted(grant) => {
                // Entered before it is done: nobody reads the log, or seals, unseen.
                let mut entry = call.draft.clone();
                entry.outcome = Recorded::Granted;
                self.enter(&entry);
                Ok(Reply::Granted(Arc::clone(grant)))
            }
        }
    }

    /// Enters the refusal of a whole call.
    pub(super) fn refuse(&mut self, draft: &Entry, error: Error) -> Result<Reply, Error> {
        let mut entry = draft.clone();
        entry.outcome = refusal(&error);
        self.enter(&entry);
        Err(error)
    }

    /// Appends an entry to the log of this batch.
    pub(super) fn enter(&mut self, entry: &Entry) {
        let bytes = entry.to_bytes();
        let leaf = crate::audit::leaf_hash(&bytes);
        self.entries.push((bytes, leaf));
    }

    /// Appends an entry that was encoded while preparing.
    pub(super) fn enter_encoded(&mut self, bytes: &[u8], leaf: LeafHash) {
        self.entries.push((bytes.to_vec(), leaf));
    }

    /// One entry that stands for the refusals of a past minute.
    pub(super) fn summarise(&mut self, account: &Account, refused: u32, at: Timestamp) {
        let actor = account.principal().map_or(crate::audit::Actor::Vault, |principal| {
            crate::audit::Actor::Principal(principal.id().clone())
        });
        let mut entry = Entry::new(at, actor, crate::audit::Action::QuotaSummary);
        entry.tenant = account.principal().and_then(|principal| principal.tenant().one().cloned());
        entry.count = refused;
        // Without randomness the id stays zero: the entry holds no secret, and the count must not be lost.
        let _ = self.entropy.fill(&mut entry.id);
        self.enter(&entry);
    }

    /// A guarded row (index, idempotency, quota, seen) as the calls before left it, its MAC checked.
    pub(super) fn row(&self, key: &Key) -> Result<Option<&[u8]>, Error> {
        let Some(guarded) = self.overlay.value(key)? else {
            return Ok(None);
        };
        let vault_id = self.keys.keyring.vault_id();
        rows::unguard(self.keys.keyring.row_mac(), vault_id, key, guarded)
            .map(Some)
            .map_err(|_| Error::Corrupt)
    }

    /// Writes the row of the tokens that this batch counts first.
    fn put_seen(&mut self, log: &LogWriter) {
        let Some(counting) = self.counting.as_ref().filter(|counting| !counting.fresh.is_empty()) else {
            return;
        };
        let end = log.head().size + self.entries.len() as u64;
        let (key, tokens) = (seen_key(counting.day, log.origin(), end), counting.fresh.to_bytes());
        self.put_row(key, &tokens);
    }

    /// Writes a guarded row.
    pub(super) fn put_row(&mut self, key: Key, value: &[u8]) {
        let guarded = rows::guarded(self.keys.keyring.row_mac(), self.keys.keyring.vault_id(), &key, value);
        self.overlay.put(key, guarded);
    }
}
