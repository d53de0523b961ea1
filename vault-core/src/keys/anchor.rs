//! How far log and keyring had come, remembered outside the store: older data than the anchor knows is
//! refused. Specified in `docs/format/anchor.md`.
//!
//! Two slots of one small file take turns. A write goes to the slot that is not the newest good one, so that
//! a torn write leaves the newest untouched. The vault writes it after the store's commit: a crash leaves the
//! anchor behind, never ahead.

use std::cmp::Reverse;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::disk;
use super::root::RootKey;
use crate::crypto::MacKey;
use crate::crypto::codec::{Reader, put_short_text};
use crate::crypto::kdf::Label;
use crate::data::VaultId;
use crate::limits::{ANCHOR_LOGS_MAX, ORIGIN_BYTES_MAX};

const MAGIC: &[u8; 8] = b"vaultan\n";
const FORMAT: u16 = 1;
const SLOT_BYTES: usize = 4096;
const FILE_BYTES: usize = 2 * SLOT_BYTES;
const MAC_BYTES: usize = 32;

// 32 logs with the longest origins fit a slot.
const FIXED_BYTES: usize = 8 + 2 + 8 + 8 + 1;
const LOG_BYTES_MAX: usize = 1 + ORIGIN_BYTES_MAX + 8 + 32;
const _: () = assert!(FIXED_BYTES + ANCHOR_LOGS_MAX * LOG_BYTES_MAX + MAC_BYTES <= SLOT_BYTES);

/// How far one log had come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AnchoredLog {
    /// Which log: the origin line of its checkpoints, 1 to 80 bytes.
    pub origin: String,
    /// Its entries.
    pub size: u64,
    /// The root hash of its tree at that size.
    pub root: [u8; 32],
}

/// What the anchor remembers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AnchorState {
    /// Grows with every write.
    pub sequence: u64,
    /// The generation of the keyring, below which none may be opened.
    pub keyring_generation: u64,
    /// The logs in ascending order of their origins, at most 32.
    pub logs: Vec<AnchoredLog>,
}

/// Why the anchor was not read or written.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum AnchorError {
    /// There is no anchor.
    #[error("there is no anchor file at its place")]
    Missing,
    /// There is an anchor already.
    #[error("there is an anchor already")]
    Exists,
    /// Neither slot is authentic under this root key for this vault.
    #[error("the anchor is damaged or belongs to another vault")]
    Damaged,
    /// The sequence is not above the one in the file.
    #[error("the anchor in the file is newer")]
    Stale,
    /// More than 32 logs, logs out of order, or an origin that is empty or longer than 80 bytes.
    #[error("an anchor holds at most 32 logs in the order of their origins, each of 1 to 80 bytes")]
    Invalid,
    /// Group or others have access.
    #[error("the anchor must not be accessible to group or others")]
    Exposed,
    /// The operating system refused.
    #[error("the anchor cannot be read or written: {0}")]
    Io(io::ErrorKind),
}

impl From<io::Error> for AnchorError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            kind => Self::Io(kind),
        }
    }
}

/// The anchor of one vault, in another folder than the store; mode 0600.
#[derive(Clone, Debug)]
pub struct AnchorFile {
    path: PathBuf,
    vault_id: VaultId,
}

impl AnchorFile {
    /// Names the file and the vault it is bound to; touches nothing.
    pub fn new(path: impl Into<PathBuf>, vault_id: VaultId) -> Self {
        Self { path: path.into(), vault_id }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says, whoever wrote it: for showing while there is no root key, **not for trust**.
    /// `None` where it cannot be read.
    pub fn unverified(path: &Path) -> Option<AnchorState> {
        let bytes = disk::read(path, FILE_BYTES).ok()??;
        let slots = bytes.chunks_exact(SLOT_BYTES).take(2);
        let states = slots.filter_map(|slot| decode(slot.split_last_chunk::<MAC_BYTES>()?.0));
        states.max_by_key(|state| state.sequence)
    }

    /// Makes the anchor of a new vault, durably. Its folder must exist.
    ///
    /// # Errors
    /// [`AnchorError`]; [`AnchorError::Exists`] if there is one, in whatever state.
    pub fn create(&self, root: &RootKey, state: &AnchorState) -> Result<(), AnchorError> {
        if self.path.try_exists()? {
            return Err(AnchorError::Exists);
        }
        self.replace(root, state)
    }

    /// Puts an anchor in the place of whatever is there, readable or not. This forgets what was known: only
    /// for an operator who accepts that, with an entry that names what is missing.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub fn replace(&self, root: &RootKey, state: &AnchorState) -> Result<(), AnchorError> {
        let slot = self.encode(root, state).ok_or(AnchorError::Invalid)?;
        Ok(disk::replace(&self.path, &[slot, slot].concat())?)
    }

    /// The newest state that is authentic.
    ///
    /// # Errors
    /// [`AnchorError`]; [`AnchorError::Damaged`] if neither slot is.
    pub fn read(&self, root: &RootKey) -> Result<AnchorState, AnchorError> {
        self.newest(root).map(|(_, state)| state)
    }

    /// Writes the next state over the older slot and waits until it is durable.
    ///
    /// # Errors
    /// [`AnchorError`]; [`AnchorError::Stale`] unless the sequence is above the one in the file. After
    /// [`AnchorError::Io`] the file holds this state or the one before.
    pub fn write(&self, root: &RootKey, state: &AnchorState) -> Result<(), AnchorError> {
        let slot = self.encode(root, state).ok_or(AnchorError::Invalid)?;
        let (newest_at, newest) = self.newest(root)?;
        if state.sequence <= newest.sequence {
            return Err(AnchorError::Stale);
        }
        self.put(1 - newest_at, &slot)
    }

    /// Puts the newest state under another root key over the older slot: from here on the anchor reads the
    /// same under either, so that a crash before the keyring has the other one, or after, changes nothing.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub fn hand_over(&self, from: &RootKey, to: &RootKey) -> Result<(), AnchorError> {
        let (newest_at, newest) = self.newest(from)?;
        let slot = self.encode(to, &newest).ok_or(AnchorError::Invalid)?;
        self.put(1 - newest_at, &slot)
    }

    fn put(&self, at: usize, slot: &[u8; SLOT_BYTES]) -> Result<(), AnchorError> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.write_all_at(slot, (at * SLOT_BYTES) as u64)?;
        Ok(File::sync_data(&file)?)
    }

    /// The newest authentic state and its slot, 0 or 1.
    fn newest(&self, root: &RootKey) -> Result<(usize, AnchorState), AnchorError> {
        if disk::is_exposed(&self.path)? {
            return Err(AnchorError::Exposed);
        }
        let bytes = disk::read(&self.path, FILE_BYTES)?.ok_or(AnchorError::Missing)?;
        let slots = bytes.chunks(SLOT_BYTES).take(2).enumerate();
        let authentic = slots.filter_map(|(at, slot)| Some((at, self.decode(root, slot)?)));
        // Equal only after creation: the first slot then counts as the newest.
        authentic.max_by_key(|(at, state)| (state.sequence, Reverse(*at))).ok_or(AnchorError::Damaged)
    }

    fn mac_key(&self, root: &RootKey) -> MacKey {
        MacKey::new(&root.subkey(Label::AnchorMac, self.vault_id.as_bytes()))
    }

    /// One slot: content, zeros, MAC over both.
    fn encode(&self, root: &RootKey, state: &AnchorState) -> Option<[u8; SLOT_BYTES]> {
        is_valid(&state.logs).then_some(())?;
        let mut content = Vec::with_capacity(SLOT_BYTES);
        content.extend_from_slice(MAGIC);
        content.extend_from_slice(&FORMAT.to_be_bytes());
        content.extend_from_slice(&state.sequence.to_be_bytes());
        content.extend_from_slice(&state.keyring_generation.to_be_bytes());
        content.push(state.logs.len() as u8); // at most 32
        for log in &state.logs {
            put_short_text(&mut content, &log.origin);
            content.extend_from_slice(&log.size.to_be_bytes());
            content.extend_from_slice(&log.root);
        }
        content.resize(SLOT_BYTES - MAC_BYTES, 0);
        let mac = self.mac_key(root).mac(&[&content]);
        content.extend_from_slice(&mac);
        content.try_into().ok()
    }

    fn decode(&self, root: &RootKey, slot: &[u8]) -> Option<AnchorState> {
        let (content, mac) = slot.split_last_chunk::<MAC_BYTES>()?;
        let authentic = slot.len() == SLOT_BYTES && self.mac_key(root).verify(&[content], mac);
        if authentic { decode(content) } else { None }
    }
}

/// One slot without its MAC.
fn decode(content: &[u8]) -> Option<AnchorState> {
    let mut reader = Reader::new(content);
    (reader.array()? == *MAGIC && reader.u16()? == FORMAT).then_some(())?;
    let (sequence, keyring_generation) = (reader.u64()?, reader.u64()?);
    let count = reader.u8()?;
    let logs = (0..count).map(|_| read_log(&mut reader)).collect::<Option<Vec<_>>>()?;
    let fits = is_valid(&logs) && reader.rest().iter().all(|byte| *byte == 0);
    fits.then_some(AnchorState { sequence, keyring_generation, logs })
}

fn read_log(reader: &mut Reader<'_>) -> Option<AnchoredLog> {
    Some(AnchoredLog { origin: reader.short_text()?.to_owned(), size: reader.u64()?, root: reader.array()? })
}

fn is_valid(logs: &[AnchoredLog]) -> bool {
    logs.len() <= ANCHOR_LOGS_MAX
        && logs.iter().all(|log| (1..=ORIGIN_BYTES_MAX).contains(&log.origin.len()))
        && logs.is_sorted_by(|a, b| a.origin < b.origin)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;
    use zeroize::Zeroizing;

    use super::*;
    use crate::crypto::Key32;

    fn root(byte: u8) -> RootKey {
        RootKey::from_key(Key32::from_bytes(Zeroizing::new([byte; 32])))
    }

    fn state(sequence: u64) -> AnchorState {
        let log = |origin: &str| AnchoredLog {
            origin: origin.to_owned(),
            size: sequence,
            root: [sequence as u8; 32],
        };
        AnchorState { sequence, keyring_generation: 3, logs: vec![log("vault/a"), log("vault/b")] }
    }

    /// An anchor that was created and written so often.
    fn written(last: u64) -> (TempDir, AnchorFile) {
        let folder = tempfile::tempdir().unwrap();
        let anchor = AnchorFile::new(folder.path().join("anchor"), VaultId::from_bytes([1; 16]));
        anchor.create(&root(1), &state(1)).unwrap();
        (2..=last).for_each(|sequence| anchor.write(&root(1), &state(sequence)).unwrap());
        (folder, anchor)
    }

    fn damage(anchor: &AnchorFile, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(anchor.path()).unwrap();
        change(&mut bytes);
        // In place: the file system would make each of the thousands of whole rewrites durable.
        let file = OpenOptions::new().write(true).open(anchor.path()).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
    }

    #[test]
    fn every_state_written_is_read_back() {
        let (_folder, anchor) = written(1);
        assert_eq!(anchor.read(&root(1)), Ok(state(1)));
        for sequence in 2..20 {
            anchor.write(&root(1), &state(sequence)).unwrap();
            assert_eq!(anchor.read(&root(1)), Ok(state(sequence)));
            assert_eq!(fs::metadata(anchor.path()).unwrap().len(), 8192);
        }
    }

    #[test]
    fn a_slot_is_the_documented_one() {
        let (_folder, anchor) = written(1);
        let slot = anchor.encode(&root(1), &state(7)).unwrap();
        let (content, mac) = slot.split_last_chunk::<MAC_BYTES>().unwrap();
        let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        crate::data::documents::shows("anchor.md", &content[..used]);
        crate::data::documents::shows("anchor.md", mac);
    }

    #[test]
    fn sequences_only_grow_and_may_skip() {
        let (_folder, anchor) = written(5);
        for sequence in [0, 1, 4, 5] {
            assert_eq!(anchor.write(&root(1), &state(sequence)), Err(AnchorError::Stale), "{sequence}");
        }
        // Steps of two would hit one slot for ever, if the sequence chose it.
        for sequence in [7, 9, 11, u64::MAX] {
            let before = fs::read(anchor.path()).unwrap();
            let newest = anchor.read(&root(1)).unwrap();
            anchor.write(&root(1), &state(sequence)).unwrap();
            let slot = anchor.encode(&root(1), &newest).unwrap();
            assert!(fs::read(anchor.path()).unwrap().chunks(4096).any(|kept| kept == slot), "{sequence}");
            assert!(before.chunks(4096).any(|kept| kept == slot));
        }
        assert_eq!(anchor.read(&root(1)), Ok(state(u64::MAX)));
        assert_eq!(anchor.write(&root(1), &state(u64::MAX)), Err(AnchorError::Stale));
    }

    #[test]
    fn every_flipped_byte_leaves_the_other_slot() {
        let (_folder, anchor) = written(4); // slot 1 has 4, slot 0 has 3
        let good = fs::read(anchor.path()).unwrap();
        for byte in 0..good.len() {
            damage(&anchor, |bytes| bytes[byte] ^= 1 << (byte % 8));
            let expected = if byte < SLOT_BYTES { state(4) } else { state(3) };
            assert_eq!(anchor.read(&root(1)), Ok(expected), "byte {byte}");
            damage(&anchor, |bytes| bytes.clone_from(&good));
        }
    }

    #[test]
    fn damage_to_both_slots_is_detected() {
        let (_folder, anchor) = written(4);
        let good = fs::read(anchor.path()).unwrap();
        for byte in 0..SLOT_BYTES {
            damage(&anchor, |bytes| {
                bytes[byte] ^= 0x80;
                bytes[SLOT_BYTES + byte] ^= 0x01;
            });
            assert_eq!(anchor.read(&root(1)), Err(AnchorError::Damaged), "byte {byte}");
            damage(&anchor, |bytes| bytes.clone_from(&good));
        }
        damage(&anchor, |bytes| bytes[FILE_BYTES - 1] ^= 1);
        damage(&anchor, |bytes| bytes[0] ^= 1);
        assert_eq!(anchor.write(&root(1), &state(9)), Err(AnchorError::Damaged), "nothing to build on");
        assert_eq!(anchor.create(&root(1), &state(9)), Err(AnchorError::Exists));
        assert_eq!(anchor.replace(&root(1), &state(9)), Ok(()), "an operator may");
        assert_eq!(anchor.read(&root(1)), Ok(state(9)));
    }

    #[test]
    fn a_torn_write_leaves_the_state_before_and_the_next_write_heals_it() {
        let (_folder, anchor) = written(4);
        let before = fs::read(anchor.path()).unwrap();
        anchor.write(&root(1), &state(5)).unwrap();
        let after = fs::read(anchor.path()).unwrap();
        assert_eq!(before[SLOT_BYTES..], after[SLOT_BYTES..], "the newest slot is not touched");
        // Any subset of the 512-byte sectors of the other may have reached the disk: all 256 of them.
        let mut complete = 0;
        for landed in 0..=255_u8 {
            damage(&anchor, |bytes| {
                bytes.clone_from(&before);
                for sector in (0..8).filter(|sector| landed >> sector & 1 == 1) {
                    let at = sector * 512..(sector + 1) * 512;
                    bytes[at.clone()].copy_from_slice(&after[at]);
                }
            });
            let is_complete = fs::read(anchor.path()).unwrap() == after;
            complete += usize::from(is_complete);
            let expected = if is_complete { state(5) } else { state(4) };
            assert_eq!(anchor.read(&root(1)), Ok(expected), "sectors {landed:08b}");
            if landed % 32 == 1 {
                anchor.write(&root(1), &state(6)).unwrap();
                assert_eq!(anchor.read(&root(1)), Ok(state(6)));
            }
        }
        // Sectors 1 to 6 are zeros before and after: only the first and the last, with the MAC, decide.
        assert_eq!(complete, 64);
    }

    #[test]
    fn a_file_of_another_length_keeps_only_whole_slots() {
        let (_folder, anchor) = written(4);
        damage(&anchor, |bytes| bytes.truncate(SLOT_BYTES + 100));
        assert_eq!(anchor.read(&root(1)), Ok(state(3)));
        damage(&anchor, |bytes| bytes.truncate(SLOT_BYTES - 1));
        assert_eq!(anchor.read(&root(1)), Err(AnchorError::Damaged));
        damage(&anchor, Vec::clear);
        assert_eq!(anchor.read(&root(1)), Err(AnchorError::Damaged));
        fs::remove_file(anchor.path()).unwrap();
        assert_eq!(anchor.read(&root(1)), Err(AnchorError::Missing));
    }

    #[test]
    fn another_root_or_vault_reads_nothing() {
        let (_folder, anchor) = written(2);
        assert_eq!(anchor.read(&root(2)), Err(AnchorError::Damaged));
        let other = AnchorFile::new(anchor.path(), VaultId::from_bytes([2; 16]));
        assert_eq!(other.read(&root(1)), Err(AnchorError::Damaged));
    }

    #[test]
    fn handed_over_the_anchor_reads_the_same_under_either_root() {
        for last in [4, 5] {
            let (_folder, anchor) = written(last);
            // Twice: the first root may never have come to a keyring.
            for next in [2, 3] {
                anchor.hand_over(&root(1), &root(next)).unwrap();
                let read = [1, next].map(|key| anchor.read(&root(key)));
                assert_eq!(read, [Ok(state(last)), Ok(state(last))]);
            }
            assert_eq!(anchor.read(&root(2)), Err(AnchorError::Damaged));
            anchor.write(&root(3), &state(9)).unwrap();
            assert_eq!(anchor.read(&root(3)), Ok(state(9)));
            assert_eq!(anchor.read(&root(1)), Err(AnchorError::Damaged), "the old root is forgotten");
            assert_eq!(anchor.hand_over(&root(1), &root(2)), Err(AnchorError::Damaged));
        }
    }

    #[test]
    fn without_a_root_key_the_newest_readable_slot_is_shown() {
        let (_folder, anchor) = written(4); // slot 1 has 4, slot 0 has 3
        assert_eq!(AnchorFile::unverified(anchor.path()), Some(state(4)));
        damage(&anchor, |bytes| bytes[SLOT_BYTES] ^= 1);
        assert_eq!(AnchorFile::unverified(anchor.path()), Some(state(3)));
        damage(&anchor, |bytes| bytes[SLOT_BYTES - 1] ^= 1);
        assert_eq!(AnchorFile::unverified(anchor.path()), Some(state(3)), "the MAC is not looked at");
        damage(&anchor, |bytes| bytes[0] ^= 1);
        assert_eq!(AnchorFile::unverified(anchor.path()), None);
        damage(&anchor, |bytes| bytes.truncate(100));
        assert_eq!(AnchorFile::unverified(anchor.path()), None);
        fs::remove_file(anchor.path()).unwrap();
        assert_eq!(AnchorFile::unverified(anchor.path()), None);
    }

    #[test]
    fn states_that_do_not_fit_are_refused() {
        let (_folder, anchor) = written(1);
        let full = |count: usize, origin_bytes: usize| AnchorState {
            logs: (0..count)
                .map(|n| AnchoredLog {
                    origin: format!("{n:02}{}", "x".repeat(origin_bytes - 2)),
                    size: u64::MAX,
                    root: [255; 32],
                })
                .collect(),
            ..state(2)
        };
        assert_eq!(anchor.write(&root(1), &full(33, 80)), Err(AnchorError::Invalid));
        assert_eq!(anchor.write(&root(1), &full(1, 81)), Err(AnchorError::Invalid));
        let mut reversed = state(2);
        reversed.logs.reverse();
        assert_eq!(anchor.write(&root(1), &reversed), Err(AnchorError::Invalid));
        let mut nameless = state(2);
        nameless.logs[0].origin.clear();
        assert_eq!(anchor.write(&root(1), &nameless), Err(AnchorError::Invalid));
        assert_eq!(anchor.write(&root(1), &full(32, 80)), Ok(()));
        assert_eq!(anchor.read(&root(1)), Ok(full(32, 80)));
    }

    #[test]
    fn a_file_open_to_others_is_refused() {
        let (_folder, anchor) = written(1);
        fs::set_permissions(anchor.path(), Permissions::from_mode(0o640)).unwrap();
        assert_eq!(anchor.read(&root(1)), Err(AnchorError::Exposed));
        assert_eq!(anchor.write(&root(1), &state(2)), Err(AnchorError::Exposed));
    }
}
