//! What happens to a vault while its log cannot be written: attempts to unseal it, steps of ceremonies, and
//! how it was closed while its store was away.
//!
//! The journal stands beside the keyring. At the next unseal its records enter the log, marked as coming
//! from here, and are then removed. It carries checksums, not MACs: whoever can write the folder can forge
//! it, and could as well delete the keyring. The file is a header of 32 bytes and records of 288; a torn or
//! damaged record is counted and skipped.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::disk;
use crate::clock::Timestamp;
use crate::crypto::codec::{Reader, put_short_text};
use crate::crypto::{Entropy, EntropyFault, sha256};
use crate::data::CallerText;
use crate::error::{CeremonyFault, HsmFault};
use crate::limits::{CALLER_TEXT_BYTES_MAX, NAME_BYTES_MAX, UNSEAL_JOURNAL_ENTRIES_MAX};

const MAGIC: &[u8; 8] = b"vaultuj\n";
const CHECK_BYTES: usize = 16;
const HEADER_BYTES: usize = 8 + 8 + CHECK_BYTES;
const IDENTITY_BYTES_MAX: usize = 255;
/// Where the step of a ceremony stands in a record, behind all texts.
const STEP_AT: usize = 8 + 1 + 1 + IDENTITY_BYTES_MAX;
const STEP_BYTES: usize = 1 + CeremonyId::BYTES;
const RECORD_BYTES: usize = 288;
/// Bytes of identity, CA and reason together: what time, outcome, three lengths and count leave.
const TEXT_BYTES_MAX: usize = STEP_AT - 8 - 1 - 3 - 4;
/// Added to the code of an HSM's fault, to tell it from the other outcomes.
const HSM: u8 = 32;
/// Added to the code of a ceremony's fault.
const FAULT: u8 = 64;
const FILE_BYTES_MAX: usize = HEADER_BYTES + UNSEAL_JOURNAL_ENTRIES_MAX * RECORD_BYTES;

// Texts, step, checksum; and the longest CA and reason leave most identities whole.
const _: () = assert!(STEP_AT + STEP_BYTES + CHECK_BYTES <= RECORD_BYTES);
const _: () = assert!(TEXT_BYTES_MAX - NAME_BYTES_MAX - CALLER_TEXT_BYTES_MAX >= 150);

/// What happened: how an attempt to unseal ended, which step of a ceremony was taken, how the vault was
/// closed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum UnsealOutcome {
    /// The vault opened.
    Opened,
    /// The passphrase was wrong.
    WrongPassphrase,
    /// Policy does not let this identity unseal.
    Denied,
    /// The keyring, the anchor, the log or the store refused to open, whatever the passphrase.
    Refused,
    /// A custodian began a ceremony.
    CeremonyBegun,
    /// A custodian gave a share.
    ShareGiven,
    /// A custodian cancelled a ceremony.
    CeremonyCancelled,
    /// A ceremony's time was over.
    CeremonyExpired,
    /// What opens the vault was given to seal it anew.
    ResealBegun,
    /// The vault has another root key under another seal.
    Resealed,
    /// An attempt to unseal begins; stands until it is known how it ended.
    UnsealBegun,
    /// The vault was sealed for a caller while its store was away.
    Sealed,
    /// Policy does not let this identity seal.
    SealDenied,
    /// The program ended while the store was away.
    Stopped,
    /// The vault sealed itself, its integrity in doubt.
    SelfSealed,
    /// The rows of the vault were copied to another store.
    StoreMoved,
    /// The HSM did not give what opens the vault.
    Hsm(HsmFault),
    /// A step was refused.
    StepRefused(CeremonyFault),
}

impl UnsealOutcome {
    const PLAIN: [Self; 16] = [
        Self::Opened,
        Self::WrongPassphrase,
        Self::Denied,
        Self::Refused,
        Self::CeremonyBegun,
        Self::ShareGiven,
        Self::CeremonyCancelled,
        Self::CeremonyExpired,
        Self::ResealBegun,
        Self::Resealed,
        Self::UnsealBegun,
        Self::Sealed,
        Self::SealDenied,
        Self::Stopped,
        Self::SelfSealed,
        Self::StoreMoved,
    ];

    /// The byte used in the journal. Never changes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Opened => 1,
            Self::WrongPassphrase => 2,
            Self::Denied => 3,
            Self::Refused => 4,
            Self::CeremonyBegun => 5,
            Self::ShareGiven => 6,
            Self::CeremonyCancelled => 7,
            Self::CeremonyExpired => 8,
            Self::ResealBegun => 9,
            Self::Resealed => 10,
            Self::UnsealBegun => 11,
            Self::Sealed => 12,
            Self::SealDenied => 13,
            Self::Stopped => 14,
            Self::SelfSealed => 15,
            Self::StoreMoved => 16,
            Self::Hsm(fault) => HSM + fault as u8,
            Self::StepRefused(fault) => FAULT + fault as u8,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            FAULT.. => CeremonyFault::from_code(code - FAULT).map(Self::StepRefused),
            HSM.. => HsmFault::from_code(code - HSM).map(Self::Hsm),
            _ => Self::PLAIN.into_iter().find(|outcome| outcome.code() == code),
        }
    }
}

/// Names a ceremony: 48 random bits, not secret. All zeros: none.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct CeremonyId([u8; Self::BYTES]);

impl CeremonyId {
    const BYTES: usize = 6;

    /// Draws the name of a new ceremony.
    ///
    /// # Errors
    /// [`EntropyFault`] when the source of randomness fails.
    pub fn draw(entropy: &mut dyn Entropy) -> Result<Self, EntropyFault> {
        let mut bytes = [0; Self::BYTES];
        entropy.fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for CeremonyId {
    /// Twelve letters `a` to `p`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |bits: u8| char::from(b'a' + bits);
        self.0.iter().try_for_each(|byte| write!(f, "{}{}", letter(byte >> 4), letter(byte & 0xf)))
    }
}

/// Which step of which ceremony.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CeremonyStep {
    /// Which ceremony.
    pub ceremony: CeremonyId,
    /// Which share was given; 0: none.
    pub share: u8,
}

/// One attempt to unseal, step of a ceremony or closing; or several that are alike.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnsealAttempt {
    /// When; of several, the last.
    pub at: Timestamp,
    /// Who, as their certificate names them, control characters replaced; empty for the vault itself. Cut
    /// where it does not fit, which no identity of up to 150 bytes is.
    pub identity: String,
    /// The configured name of the CA that vouches for the identity; empty where it is not known.
    pub ca: String,
    /// What happened.
    pub outcome: UnsealOutcome,
    /// The default outside ceremonies.
    pub step: CeremonyStep,
    /// Why, in the caller's words.
    pub reason: Option<CallerText>,
    /// How many this stands for, at least one.
    pub count: u32,
}

/// What waits to enter the log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PendingAttempts {
    /// The attempts, oldest first.
    pub attempts: Vec<UnsealAttempt>,
    /// How many have no record, or lost theirs to stay within the bound.
    pub summed: u64,
    /// How many records do not read.
    pub damaged: u64,
}

/// Why the journal was not read or written.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum JournalError {
    /// The operating system refused.
    #[error("the unseal journal cannot be read or written: {0}")]
    Io(io::ErrorKind),
}

impl From<io::Error> for JournalError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// The journal of one vault, beside its keyring; mode 0600.
#[derive(Clone, Debug)]
pub struct UnsealJournal {
    path: PathBuf,
}

impl UnsealJournal {
    /// Names the file; touches nothing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes attempts down, and adds to the number of those without a record; durable on return. Beyond
    /// 1,000 records the older half is summed up.
    ///
    /// # Errors
    /// [`JournalError`]; the vault must not unseal then.
    pub fn append(&self, attempts: &[UnsealAttempt], summed: u64) -> Result<(), JournalError> {
        let stored = self.stored()?;
        let whole = stored.records.len();
        let encoded: Vec<u8> = attempts.iter().flat_map(encode).collect();
        if stored.to_rewrite || summed > 0 || whole + attempts.len() > UNSEAL_JOURNAL_ENTRIES_MAX {
            return self.rewrite_with(&stored, &encoded, summed);
        }
        let offset = HEADER_BYTES + whole * RECORD_BYTES; // over a torn record, if there is one
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.write_all_at(&encoded, offset as u64)?;
        file.set_len((offset + encoded.len()) as u64)?;
        Ok(file.sync_all()?)
    }

    /// Says how an attempt ended that was written down when it began; durable on return.
    ///
    /// # Errors
    /// [`JournalError`]; it then stands as begun.
    pub fn settle(&self, begun: &UnsealAttempt, outcome: UnsealOutcome) -> Result<(), JournalError> {
        self.replace(begun, UnsealAttempt { outcome, ..begun.clone() })
    }

    /// Puts what an attempt came to in the place of what was written down when it began; durable on return.
    ///
    /// # Errors
    /// [`JournalError`]; it then stands as begun.
    pub fn replace(&self, begun: &UnsealAttempt, ended: UnsealAttempt) -> Result<(), JournalError> {
        let begun = encode(begun);
        let Some(place) = self.stored()?.records.iter().rposition(|record| *record == begun) else {
            return self.append(&[ended], 0);
        };
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.write_all_at(&encode(&ended), (HEADER_BYTES + place * RECORD_BYTES) as u64)?;
        Ok(file.sync_data()?)
    }

    /// What waits to enter the log.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn pending(&self) -> Result<PendingAttempts, JournalError> {
        let Stored { records, summed, damaged_header, .. } = self.stored()?;
        let count = records.len();
        let attempts: Vec<_> = records.iter().filter_map(|record| decode(record)).collect();
        let damaged = (count - attempts.len()) as u64 + u64::from(damaged_header);
        Ok(PendingAttempts { attempts, summed, damaged })
    }

    /// Removes everything, once it stands durably in the log. A crash in between makes it stand there twice,
    /// never not at all. Nothing may be appended between [`pending`](Self::pending) and this.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn clear(&self) -> Result<(), JournalError> {
        Ok(disk::replace(&self.path, &header(0))?)
    }

    /// Starts the file, mends its header, counts what has no record, or makes room by summing up the older
    /// half.
    fn rewrite_with(&self, stored: &Stored, encoded: &[u8], summed: u64) -> Result<(), JournalError> {
        let whole = stored.records.len();
        let full = whole + encoded.len() / RECORD_BYTES > UNSEAL_JOURNAL_ENTRIES_MAX;
        let dropped = if full { whole.saturating_sub(UNSEAL_JOURNAL_ENTRIES_MAX / 2) } else { 0 };
        let (lost, kept) = stored.records.split_at_checked(dropped).unwrap_or_default();
        let lost: u64 =
            lost.iter().map(|record| decode(record).map_or(1, |attempt| attempt.count.into())).sum();
        let mut bytes = header(stored.summed.saturating_add(summed).saturating_add(lost)).to_vec();
        kept.iter().for_each(|record| bytes.extend_from_slice(record));
        bytes.extend_from_slice(encoded);
        Ok(disk::replace(&self.path, &bytes)?)
    }

    fn stored(&self) -> Result<Stored, JournalError> {
        let Some(bytes) = disk::read(&self.path, FILE_BYTES_MAX)? else {
            return Ok(Stored { records: Vec::new(), summed: 0, damaged_header: false, to_rewrite: true });
        };
        let (head, rest) = bytes.split_at_checked(HEADER_BYTES).unwrap_or((&bytes, &[]));
        let summed = read_header(head);
        Ok(Stored {
            records: rest.as_chunks::<RECORD_BYTES>().0.to_vec(),
            summed: summed.unwrap_or_default(),
            damaged_header: summed.is_none(),
            to_rewrite: summed.is_none(),
        })
    }
}

/// The file taken apart; its records not yet read.
struct Stored {
    records: Vec<[u8; RECORD_BYTES]>,
    summed: u64,
    damaged_header: bool,
    to_rewrite: bool,
}

fn header(summed: u64) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    put_checked(&mut out, &[MAGIC.as_slice(), &summed.to_be_bytes()].concat());
    out
}

fn read_header(bytes: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(checked(bytes)?);
    (reader.array()? == *MAGIC).then_some(())?;
    let summed = reader.u64()?;
    reader.finish().map(|()| summed)
}

fn encode(attempt: &UnsealAttempt) -> [u8; RECORD_BYTES] {
    let ca = printable(&attempt.ca, NAME_BYTES_MAX);
    let reason = attempt.reason.as_ref().map_or("", CallerText::as_str);
    let identity = printable(&attempt.identity, TEXT_BYTES_MAX - ca.len() - reason.len());
    let mut content = attempt.at.micros().to_be_bytes().to_vec();
    content.push(attempt.outcome.code());
    for text in [&identity, &ca, reason] {
        put_short_text(&mut content, text);
    }
    content.extend_from_slice(&attempt.count.to_be_bytes());
    content.resize(STEP_AT, 0);
    content.push(attempt.step.share);
    content.extend_from_slice(&attempt.step.ceremony.0);
    let mut out = [0; RECORD_BYTES];
    put_checked(&mut out, &content);
    out
}

/// Zeros behind the identity, or no room there, are an attempt of before there were CA, reason and count.
fn decode(record: &[u8]) -> Option<UnsealAttempt> {
    let (texts, step) = checked(record)?.split_at_checked(STEP_AT)?;
    let mut reader = Reader::new(texts);
    let at = Timestamp::from_micros(reader.u64()?);
    let outcome = UnsealOutcome::from_code(reader.u8()?)?;
    let identity = reader.short_text()?.to_owned();
    let ca = reader.short_text().unwrap_or_default().to_owned();
    let reason = reader.short_text().and_then(CallerText::of_stored);
    let count = reader.array().map_or(1, u32::from_be_bytes).max(1);
    let mut reader = Reader::new(step);
    let (share, ceremony) = (reader.u8()?, CeremonyId(reader.array()?));
    let step = CeremonyStep { ceremony, share };
    Some(UnsealAttempt { at, identity, ca, outcome, step, reason, count })
}

/// Content, zeros, and the first 16 bytes of the SHA-256 of both.
fn put_checked(out: &mut [u8], content: &[u8]) {
    let (body, check) = out.split_at_mut(out.len() - CHECK_BYTES);
    body.iter_mut().zip(content).for_each(|(byte, content)| *byte = *content);
    check.iter_mut().zip(sha256(&[body])).for_each(|(byte, hash)| *byte = hash);
}

fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, check) = bytes.split_last_chunk::<CHECK_BYTES>()?;
    sha256(&[body]).starts_with(check).then_some(body)
}

/// At most so many bytes without control characters: the name comes from a certificate.
fn printable(name: &str, bytes_max: usize) -> String {
    let mut out = String::with_capacity(name.len().min(bytes_max));
    for letter in name.chars().map(|letter| if letter.is_control() { '?' } else { letter }) {
        if out.len() + letter.len_utf8() > bytes_max {
            break;
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn journal() -> (TempDir, UnsealJournal) {
        let folder = tempfile::tempdir().unwrap();
        let journal = UnsealJournal::new(folder.path().join("unseal.journal"));
        (folder, journal)
    }

    fn attempt(n: u64) -> UnsealAttempt {
        UnsealAttempt {
            at: Timestamp::from_seconds(1_700_000_000 + n),
            identity: format!("spiffe://example.org/custodian/{n}"),
            ca: "office".to_owned(),
            outcome: UnsealOutcome::PLAIN[n as usize % 15],
            step: CeremonyStep::default(),
            reason: CallerText::parse(&format!("case-{n}")).ok().filter(|_| n.is_multiple_of(2)),
            count: 1 + n as u32,
        }
    }

    fn filled(count: u64) -> (TempDir, UnsealJournal) {
        let (folder, journal) = journal();
        (0..count).for_each(|n| journal.append(&[attempt(n)], 0).unwrap());
        (folder, journal)
    }

    fn attempts(range: std::ops::Range<u64>) -> Vec<UnsealAttempt> {
        range.map(attempt).collect()
    }

    #[test]
    fn attempts_wait_in_order_until_they_are_cleared() {
        let (_folder, journal) = journal();
        assert_eq!(journal.pending(), Ok(PendingAttempts::default()));
        (0..9).for_each(|n| journal.append(&[attempt(n)], 0).unwrap());
        let pending = PendingAttempts { attempts: attempts(0..9), summed: 0, damaged: 0 };
        assert_eq!(journal.pending(), Ok(pending.clone()));
        assert_eq!(journal.pending(), Ok(pending), "reading removes nothing");
        assert_eq!(fs::metadata(journal.path()).unwrap().permissions().mode() & 0o777, 0o600);
        journal.clear().unwrap();
        assert_eq!(journal.pending(), Ok(PendingAttempts::default()));
        journal.append(&[attempt(9)], 0).unwrap();
        assert_eq!(journal.pending().unwrap().attempts, attempts(9..10));
    }

    #[test]
    fn the_journal_is_bounded_and_what_it_drops_is_counted() {
        let max = UNSEAL_JOURNAL_ENTRIES_MAX as u64;
        let (_folder, journal) = journal();
        // As if so many had been appended one by one.
        let mut bytes = header(7).to_vec();
        (0..max).for_each(|n| bytes.extend_from_slice(&encode(&attempt(n))));
        disk::replace(journal.path(), &bytes).unwrap();
        journal.append(&[attempt(max)], 0).unwrap();
        let pending = journal.pending().unwrap();
        let counted: u64 = (0..max / 2).map(|n| 1 + n).sum();
        assert_eq!((pending.summed, pending.damaged), (7 + counted, 0));
        assert_eq!(pending.attempts, attempts(max / 2..max + 1));
        assert!(fs::metadata(journal.path()).unwrap().len() <= FILE_BYTES_MAX as u64);
    }

    #[test]
    fn a_torn_append_is_dropped_and_written_over() {
        for torn in [1, 100, RECORD_BYTES - 1] {
            let (_folder, journal) = filled(3);
            let whole = fs::read(journal.path()).unwrap();
            fs::write(journal.path(), &whole[..whole.len() - torn]).unwrap();
            assert_eq!(journal.pending().unwrap().attempts, attempts(0..2));
            journal.append(&[attempt(2)], 0).unwrap();
            assert_eq!(fs::read(journal.path()).unwrap(), whole);
        }
    }

    #[test]
    fn every_flipped_byte_is_counted_and_loses_nothing_else() {
        let (_folder, journal) = filled(3);
        let good = fs::read(journal.path()).unwrap();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1 << (byte % 8);
            fs::remove_file(journal.path()).unwrap();
            fs::write(journal.path(), bad).unwrap();
            let mut left = attempts(0..3);
            if byte >= HEADER_BYTES {
                left.remove((byte - HEADER_BYTES) / RECORD_BYTES);
            }
            let pending = journal.pending().unwrap();
            assert_eq!((pending.attempts, pending.damaged), (left, 1), "byte {byte}");
        }
    }

    #[test]
    fn a_damaged_header_is_mended_by_the_next_append() {
        for damage in [0, HEADER_BYTES - 1] {
            let (_folder, journal) = filled(3);
            let mut bytes = fs::read(journal.path()).unwrap();
            bytes[damage] ^= 1;
            fs::write(journal.path(), bytes).unwrap();
            journal.append(&[attempt(3)], 0).unwrap();
            let pending = PendingAttempts { attempts: attempts(0..4), summed: 0, damaged: 0 };
            assert_eq!(journal.pending(), Ok(pending));
        }
        let (_folder, journal) = journal();
        fs::write(journal.path(), b"short").unwrap();
        assert_eq!(journal.pending().unwrap().damaged, 1);
        journal.append(&[attempt(0)], 0).unwrap();
        assert_eq!(journal.pending().unwrap().attempts, attempts(0..1));
    }

    #[test]
    fn the_file_is_the_documented_one() {
        crate::data::documents::shows("keyring.md", &header(2));
        let record = encode(&attempt(1));
        let (content, check) = record.split_last_chunk::<CHECK_BYTES>().unwrap();
        let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        crate::data::documents::shows("keyring.md", &content[..used]);
        crate::data::documents::shows("keyring.md", check);
    }

    #[test]
    fn steps_of_ceremonies_read_back_and_codes_are_the_documented_ones() {
        let (_folder, journal) = journal();
        let ceremony = CeremonyId([0x01, 0x23, 0x45, 0x67, 0x89, 0xab]);
        assert_eq!(ceremony.to_string(), "abcdefghijkl");
        let faults = CeremonyFault::ALL.map(UnsealOutcome::StepRefused);
        let hsm = HsmFault::ALL.map(UnsealOutcome::Hsm);
        let outcomes = UnsealOutcome::PLAIN.into_iter().chain(hsm).chain(faults);
        // With the longest texts, which must not reach into the step.
        let (ca, reason) = ("office".to_owned(), CallerText::parse("case-1").ok());
        let attempts: Vec<_> = outcomes
            .map(|outcome| UnsealAttempt {
                identity: "x".repeat(TEXT_BYTES_MAX - 12),
                ca: ca.clone(),
                reason: reason.clone(),
                outcome,
                step: CeremonyStep { ceremony, share: 16 },
                ..attempt(0)
            })
            .collect();
        journal.append(&attempts, 0).unwrap();
        let codes: Vec<u8> = attempts.iter().map(|attempt| attempt.outcome.code()).collect();
        assert_eq!(codes, (1..=16).chain(33..=45).chain(65..=76).collect::<Vec<_>>());
        assert_eq!(journal.pending().unwrap().attempts, attempts);
        for unknown in [0, 17, HSM, 46, FAULT, 77] {
            assert_eq!(UnsealOutcome::from_code(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn identities_are_cut_at_a_character_and_made_printable() {
        assert_eq!(printable("a\nb\u{7f}c", 255), "a?b?c");
        let long = "é".repeat(200);
        assert_eq!(printable(&long, 255), "é".repeat(127));
        let (_folder, journal) = journal();
        let reason = CallerText::parse(&"r".repeat(64)).ok();
        let longest = UnsealAttempt { identity: long, ca: "c".repeat(40), reason, ..attempt(0) };
        journal.append(std::slice::from_ref(&longest), 0).unwrap();
        let kept = UnsealAttempt { identity: "é".repeat(76), ca: "c".repeat(32), ..longest };
        assert_eq!(journal.pending().unwrap().attempts, [kept]);
    }

    #[test]
    fn an_attempt_of_before_there_were_ca_reason_and_count_reads_as_ever() {
        for identity in [1, 240, 247, 248, 249, 254, 255].map(|bytes| "u".repeat(bytes)) {
            let (_folder, journal) = journal();
            let mut content = attempt(1).at.micros().to_be_bytes().to_vec();
            content.push(3);
            put_short_text(&mut content, &identity);
            let mut record = [0; RECORD_BYTES];
            put_checked(&mut record, &content);
            disk::replace(journal.path(), &[header(0).as_slice(), &record].concat()).unwrap();
            let (outcome, ca) = (UnsealOutcome::Denied, String::new());
            let read = UnsealAttempt { outcome, identity, ca, reason: None, count: 1, ..attempt(1) };
            let pending = PendingAttempts { attempts: vec![read], summed: 0, damaged: 0 };
            assert_eq!(journal.pending().unwrap(), pending);
        }
    }

    #[test]
    fn what_has_no_record_is_counted_beside_those_that_have() {
        let (_folder, journal) = filled(3);
        journal.append(&attempts(3..5), 7).unwrap();
        journal.append(&[], 2).unwrap();
        let pending = PendingAttempts { attempts: attempts(0..5), summed: 9, damaged: 0 };
        assert_eq!(journal.pending(), Ok(pending));
    }

    #[test]
    fn an_attempt_is_settled_where_it_stands() {
        let (_folder, journal) = filled(2);
        let begun = UnsealAttempt { outcome: UnsealOutcome::UnsealBegun, ..attempt(2) };
        journal.append(std::slice::from_ref(&begun), 0).unwrap();
        journal.append(&[attempt(3)], 0).unwrap();
        journal.settle(&begun, UnsealOutcome::WrongPassphrase).unwrap();
        let mut expected = attempts(0..4);
        expected[2].outcome = UnsealOutcome::WrongPassphrase;
        assert_eq!(journal.pending().unwrap().attempts, expected);
        // Begun before the journal was cleared by somebody else.
        journal.settle(&begun, UnsealOutcome::Refused).unwrap();
        assert_eq!(journal.pending().unwrap().attempts.last().unwrap().outcome, UnsealOutcome::Refused);
    }
}
