//! One snapshot with the pending writes of a batch laid over it.

use std::collections::HashMap;

use crate::error::Error;
use crate::store::{Change, Fault, Key, Mark, Row, Store, Writes};

/// A row as the next call of the batch sees it.
struct Seen {
    /// The version in the store, if the row is there.
    stored: Option<u64>,
    /// The value now: the store's or a pending one.
    value: Option<Vec<u8>>,
    pending: bool,
    /// It was read, so that its version or absence is known.
    read: bool,
    /// The engine found the row unreadable: whoever needs it fails, and nobody else.
    damaged: bool,
}

impl Seen {
    const UNREAD: Self = Self { stored: None, value: None, pending: false, read: false, damaged: false };
    const DAMAGED: Self = Self { damaged: true, ..Self::UNREAD };

    fn read(row: Option<Row>) -> Self {
        let (stored, value) = row.map(|row| (row.version, row.value)).unzip();
        Self { stored, value, read: true, ..Self::UNREAD }
    }
}

/// What a batch has read and is about to write.
pub(super) struct Overlay {
    rows: HashMap<Key, Seen>,
    /// Where the store stood before they were read.
    mark: Option<Mark>,
}

impl Overlay {
    /// Reads all keys in one snapshot.
    ///
    /// Where the engine reports damage, the keys are read one by one, so that one bad row is not the whole
    /// batch's end. A row that another daemon changes in between is noticed when it is written.
    pub(super) fn read(store: &dyn Store, keys: Vec<Key>) -> Result<Self, Fault> {
        let mut overlay = Self { rows: HashMap::new(), mark: store.mark() };
        overlay.read_also(store, keys)?;
        Ok(overlay)
    }

    /// Reads what only the rows read before lead to.
    pub(super) fn read_also(&mut self, store: &dyn Store, mut keys: Vec<Key>) -> Result<(), Fault> {
        keys.retain(|key| !self.rows.contains_key(key));
        // In their order an engine finds each near the one before.
        keys.sort_unstable();
        keys.dedup();
        let read = match store.read(&keys) {
            Err(Fault::Corrupt(_)) => {
                keys.iter().map(|key| read_one(store, key)).collect::<Result<_, _>>()?
            }
            read => read?.into_iter().map(Seen::read).collect::<Vec<_>>(),
        };
        self.rows.extend(keys.into_iter().zip(read));
        Ok(())
    }

    /// Takes in a row that a scan found since [`read`](Self::read).
    pub(super) fn admit(&mut self, key: Key, row: Row) {
        self.rows.entry(key).or_insert_with(|| Seen::read(Some(row)));
    }

    /// The row as the calls before left it. A key that was not read counts as absent.
    pub(super) fn value(&self, key: &Key) -> Result<Option<&[u8]>, Error> {
        match self.rows.get(key) {
            Some(seen) if seen.damaged => Err(Error::Corrupt),
            Some(seen) => Ok(seen.value.as_deref()),
            None => Ok(None),
        }
    }

    /// Writes a row: inserted where the snapshot has none, replaced where it has one.
    pub(super) fn put(&mut self, key: Key, value: Vec<u8>) {
        let seen = self.rows.entry(key).or_insert(Seen::UNREAD);
        seen.value = Some(value);
        seen.pending = true;
    }

    /// Lets the commit conflict with whoever changes a row that was read, without changing it.
    pub(super) fn hold(&mut self, key: &Key) {
        if let Some(seen) = self.rows.get_mut(key) {
            seen.pending |= seen.value.is_some();
        }
    }

    /// Deletes a row that was read.
    pub(super) fn delete(&mut self, key: &Key) {
        if let Some(seen) = self.rows.get_mut(key) {
            seen.value = None;
            seen.pending = true;
        }
    }

    /// All pending writes with their preconditions.
    pub(super) fn into_writes(self) -> Writes {
        let (mut read, mut unread) = (Vec::new(), Vec::new());
        for (key, seen) in self.rows.into_iter().filter(|(_, seen)| seen.pending) {
            let change = match (seen.stored, seen.value) {
                (None, Some(value)) => Change::Insert(value),
                (Some(version), Some(value)) => Change::Replace { version, value },
                (Some(version), None) => Change::Delete { version },
                (None, None) => continue,
            };
            if seen.read { read.push((key, change)) } else { unread.push((key, change)) }
        }
        read.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        unread.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let mut writes = Writes::of_read(self.mark, read);
        unread.into_iter().for_each(|(key, change)| writes.push(key, change));
        writes
    }
}

fn read_one(store: &dyn Store, key: &Key) -> Result<Seen, Fault> {
    match store.read(std::slice::from_ref(key)) {
        Ok(rows) => Ok(Seen::read(rows.into_iter().next().flatten())),
        Err(Fault::Corrupt(_)) => Ok(Seen::DAMAGED),
        Err(fault) => Err(fault),
    }
}
