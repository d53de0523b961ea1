//! The audit entry: who did what with which token, for which purpose, and how it ended. Never a value.
//!
//! The encoding is fixed and canonical: one entry has one encoding, and every accepted encoding is the one
//! its entry gives. `docs/format/audit-log.md` is the specification.
//!
//! ```text
//! 0  version 1 | action 1 | outcome 2 | class 1 | record state 1 | actor kind 1 | token class 1
//! 8  at 8      | id 16    | record version 4 | key version 4 | count 4 | policy 8
//! 52 token 20, if any | actor: name, or identity hash 32, or nothing
//!    tenant | purpose | recipient | reference | note: each a length 1 and text, length 0 for none
//! ```

use crate::clock::Timestamp;
use crate::data::{CallerText, Class, NameError, PrincipalId, PurposeId, RecipientId, TenantId, Token};
use crate::limits::{CALLER_TEXT_BYTES_MAX, ENTRY_BYTES_MAX, NAME_BYTES_MAX};

use super::LogFault;
use super::outcome::{Action, Outcome};

/// The version this release writes, and the only one it reads.
const VERSION: u8 = 1;

const FIXED_BYTES: usize = 52;
const TOKEN_BYTES: usize = Token::BYTES - 1;
const IDENTITY_HASH_BYTES: usize = 32;
const LONGEST: usize = FIXED_BYTES + TOKEN_BYTES + 4 * (1 + NAME_BYTES_MAX) + 2 * (1 + CALLER_TEXT_BYTES_MAX);

// Every entry fits its bound, and every text's length fits its byte.
const _: () = assert!(LONGEST <= ENTRY_BYTES_MAX && IDENTITY_HASH_BYTES <= NAME_BYTES_MAX);
const _: () = assert!(NAME_BYTES_MAX <= 255 && CALLER_TEXT_BYTES_MAX <= 255);

/// One operation, as it stands in the log for ever.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// 128 random bits, so that the hash of an entry tells nothing about it to whoever sees it in a proof.
    pub id: [u8; 16],
    /// When the vault decided.
    pub at: Timestamp,
    /// Who asked.
    pub actor: Actor,
    /// Whose data; none for what concerns the whole vault.
    pub tenant: Option<TenantId>,
    /// What was asked.
    pub action: Action,
    /// Of which class.
    pub class: Option<Class>,
    /// Which token, if the request named or made one.
    pub token: Option<Token>,
    /// The record's version after the operation; 0 where no record is concerned.
    pub record_version: u32,
    /// The record's state after the operation, as in its envelope; 0 where no record is concerned.
    pub record_state: u8,
    /// The version of the key the record is encrypted under; 0 where no record is concerned.
    pub key_version: u32,
    /// For which purpose a value was asked for, where the policy has the name.
    pub purpose: Option<PurposeId>,
    /// For whom, where the policy has the name.
    pub recipient: Option<RecipientId>,
    /// The caller's reference.
    pub reference: Option<CallerText>,
    /// How it ended.
    pub outcome: Outcome,
    /// How many items or events the entry stands for.
    pub count: u32,
    /// The first 8 bytes of the SHA-256 of the policy that decided.
    pub policy: [u8; 8],
    /// The vault's or the operator's own words.
    pub note: Option<CallerText>,
}

/// Who asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Actor {
    /// A principal of the policy.
    Principal(PrincipalId),
    /// A valid certificate without a principal.
    Unknown {
        /// SHA-256 of the certificate's identity, which may be any text and so does not stand here itself.
        identity_hash: [u8; 32],
    },
    /// The vault itself.
    Vault,
}

impl Actor {
    const fn kind(&self) -> u8 {
        match self {
            Self::Principal(_) => 1,
            Self::Unknown { .. } => 2,
            Self::Vault => 3,
        }
    }
}

impl Entry {
    /// An entry that is done and speaks of one thing, before more is known. Its id is still zero: whoever
    /// enters it draws one.
    pub const fn new(at: Timestamp, actor: Actor, action: Action) -> Self {
        Self {
            id: [0; 16],
            at,
            actor,
            tenant: None,
            action,
            class: None,
            token: None,
            record_version: 0,
            record_state: 0,
            key_version: 0,
            purpose: None,
            recipient: None,
            reference: None,
            outcome: Outcome::Done,
            count: 1,
            policy: [0; 8],
            note: None,
        }
    }

    /// The canonical encoding, at most 334 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Room for the longest entry would waste half of it on most: this is exact.
        let mut out = Vec::with_capacity(self.encoded_bytes());
        out.extend_from_slice(&[VERSION, self.action.code()]);
        out.extend_from_slice(&self.outcome.code());
        let token_class = self.token.map_or(0, |token| token.class().code());
        let class = self.class.map_or(0, Class::code);
        out.extend_from_slice(&[class, self.record_state, self.actor.kind(), token_class]);
        out.extend_from_slice(&self.at.micros().to_be_bytes());
        out.extend_from_slice(&self.id);
        for number in [self.record_version, self.key_version, self.count] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.policy);
        if let Some(token) = &self.token {
            out.extend_from_slice(token.bits());
            out.extend_from_slice(token.tag());
        }
        match &self.actor {
            Actor::Principal(id) => put_text(&mut out, id.as_str()),
            Actor::Unknown { identity_hash } => out.extend_from_slice(identity_hash),
            Actor::Vault => (),
        }
        for text in self.texts() {
            put_text(&mut out, text);
        }
        out
    }

    fn encoded_bytes(&self) -> usize {
        let token = if self.token.is_some() { TOKEN_BYTES } else { 0 };
        let actor = match &self.actor {
            Actor::Principal(id) => 1 + id.as_str().len(),
            Actor::Unknown { .. } => IDENTITY_HASH_BYTES,
            Actor::Vault => 0,
        };
        FIXED_BYTES + token + actor + self.texts().iter().map(|text| 1 + text.len()).sum::<usize>()
    }

    /// The optional texts in the order of the encoding, empty where there is none.
    fn texts(&self) -> [&str; 5] {
        [
            self.tenant.as_ref().map_or("", TenantId::as_str),
            self.purpose.as_ref().map_or("", PurposeId::as_str),
            self.recipient.as_ref().map_or("", RecipientId::as_str),
            self.reference.as_ref().map_or("", CallerText::as_str),
            self.note.as_ref().map_or("", CallerText::as_str),
        ]
    }

    /// Reads an encoding, exactly as [`Entry::to_bytes`] writes it.
    ///
    /// # Errors
    /// [`LogFault::Corrupt`] on any other version, code, length or character, and on bytes left over.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LogFault> {
        Self::decode(&mut Reader(bytes)).ok_or(LogFault::Corrupt("an audit entry is malformed"))
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let [version, action, outcome, detail, class, record_state, actor, token] = from.take()?;
        if version != VERSION {
            return None;
        }
        let entry = Self {
            action: Action::from_code(action)?,
            outcome: Outcome::from_code([outcome, detail])?,
            class: optional(class, Class::from_code)?,
            record_state,
            at: Timestamp::from_micros(u64::from_be_bytes(from.take()?)),
            id: from.take()?,
            record_version: u32::from_be_bytes(from.take()?),
            key_version: u32::from_be_bytes(from.take()?),
            count: u32::from_be_bytes(from.take()?),
            policy: from.take()?,
            token: from.token(optional(token, Class::from_code)?)?,
            actor: from.actor(actor)?,
            tenant: from.name(TenantId::parse)?,
            purpose: from.name(PurposeId::parse)?,
            recipient: from.name(RecipientId::parse)?,
            reference: from.caller_text()?,
            note: from.caller_text()?,
        };
        from.0.is_empty().then_some(entry)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    // The texts are names and caller-given texts, at most 64 bytes long, so the length fits.
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes());
}

/// A code of which 0 means none.
fn optional<T>(code: u8, known: impl FnOnce(u8) -> Option<T>) -> Option<Option<T>> {
    if code == 0 { Some(None) } else { known(code).map(Some) }
}

/// The rest of an encoding. Every part it gives is checked; `None` ends the reading.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (part, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*part)
    }

    fn token(&mut self, class: Option<Class>) -> Option<Option<Token>> {
        let Some(class) = class else { return Some(None) };
        Some(Some(Token::from_parts(class, self.take()?, self.take()?)))
    }

    fn actor(&mut self, kind: u8) -> Option<Actor> {
        match kind {
            1 => self.name(PrincipalId::parse)?.map(Actor::Principal),
            2 => Some(Actor::Unknown { identity_hash: self.take()? }),
            3 => Some(Actor::Vault),
            _ => None,
        }
    }

    /// A text that may be absent.
    fn text(&mut self) -> Option<Option<&'a str>> {
        let [length] = self.take()?;
        let (text, rest) = self.0.split_at_checked(usize::from(length))?;
        self.0 = rest;
        let text = std::str::from_utf8(text).ok()?;
        Some((!text.is_empty()).then_some(text))
    }

    fn name<T>(&mut self, parse: impl FnOnce(&str) -> Result<T, NameError>) -> Option<Option<T>> {
        self.text()?.map(parse).transpose().ok()
    }

    fn caller_text(&mut self) -> Option<Option<CallerText>> {
        match self.text()? {
            None => Some(None),
            Some(text) => CallerText::of_stored(text).map(Some),
        }
    }
}
