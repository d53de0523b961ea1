//! What can go wrong, classed by who can fix it.
//!
//! Messages are constants: none of them repeats what a caller sent, so that a card number in the wrong
//! field never reaches a log or a screen by way of an error.

use thiserror::Error;

/// Why a call got no answer. The daemon maps each class to one gRPC status (`rpc/status.rs`).
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Error {
    /// The request itself is wrong; repeating it cannot help.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// Bad tag, unknown, erased, foreign or outside the record's purposes: one answer for all, so that
    /// nobody learns which tokens exist.
    #[error("no such token")]
    UnknownToken,
    /// Policy does not allow this principal this request.
    #[error("the policy does not allow this request")]
    Denied,
    /// A limit is reached; waiting helps.
    #[error("{0}")]
    Exhausted(Exhausted),
    /// The request contradicts an earlier one.
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// The vault or the record is in a state that forbids this call.
    #[error("{0}")]
    State(State),
    /// A step of a ceremony does not fit, or the share that came with it.
    #[error("{0}")]
    Ceremony(#[from] CeremonyFault),
    /// The store is away; waiting helps.
    #[error("{0}")]
    Unavailable(Unavailable),
    /// Stored data does not authenticate.
    #[error("stored data is damaged")]
    Corrupt,
    /// The deadline passed before the vault began the call, which therefore has no effect.
    #[error("the deadline passed before the vault began this request")]
    DeadlineExceeded,
    /// A defect of the vault itself.
    #[error("the vault has a defect")]
    Bug,
}

/// What is wrong with a request. [`Invalid::reason`] is part of the API and never changes its meaning.
#[derive(Clone, Copy, Debug, Eq, Error, Hash, PartialEq)]
#[repr(u8)]
#[allow(clippy::enum_variant_names, reason = "named after the reasons of the API, which end so")]
pub enum Invalid {
    /// Not 12–19 digits with single spaces or hyphens.
    #[error("a PAN has 12 to 19 digits, with at most single spaces or hyphens between them")]
    PanLength = 1,
    /// The check digit is wrong (ISO/IEC 7812-1 annex B).
    #[error("the check digit of the PAN is wrong")]
    PanLuhn = 2,
    /// Not nine digits, or hyphens elsewhere than after the third and fifth.
    #[error("an SSN has 9 digits, plain or as ddd-dd-dddd")]
    SsnLength = 3,
    /// An area, group or serial that the SSA never issues.
    #[error("this SSN was never issued")]
    SsnNeverIssued = 4,
    /// A month outside 1–12 or a year outside 2000–2099.
    #[error("the expiry needs a month from 1 to 12 and a year from 2000 to 2099")]
    ExpiryInvalid = 5,
    /// Empty, too long, or with control characters.
    #[error("the cardholder's name has 1 to 64 bytes of UTF-8 without control characters")]
    NameInvalid = 6,
    /// Wrong prefix, length or letters.
    #[error("the token is malformed")]
    TokenMalformed = 7,
    /// Track data, a card verification code or a PIN block: never accepted (PCI DSS 3.3.1).
    #[error("sensitive authentication data is never accepted")]
    SensitiveAuthenticationData = 8,
    /// A card number or SSN where only a reference belongs.
    #[error("this text field carries what reads like a card number or SSN")]
    SensitiveText = 9,
    /// Caller-given text outside `[A-Za-z0-9._:/-]` or longer than 64.
    #[error("references and idempotency keys have 1 to 64 characters of A-Z a-z 0-9 . _ : / -")]
    TextMalformed = 10,
    /// A required field is missing.
    #[error("a required field is missing")]
    FieldMissing = 11,
    /// A batch without items.
    #[error("the batch has no items")]
    BatchEmpty = 12,
    /// A batch of more than 1,000 items.
    #[error("a batch has at most 1000 items")]
    BatchTooLarge = 13,
    /// Not exactly four digits.
    #[error("the last four are exactly 4 digits")]
    LastFourMalformed = 14,
    /// An expiry or a name beside an SSN, or a value of another class than the field.
    #[error("the value is not of the stated class")]
    WrongClass = 15,
    /// A range or index outside the log.
    #[error("the index or range lies outside the log")]
    RangeInvalid = 16,
    /// A leaf hash that is not 32 bytes, or not the one at that index.
    #[error("the leaf hash does not belong to that index")]
    LeafHashMismatch = 17,
    /// More purposes than a record can carry, or a malformed purpose name.
    #[error("a record is restricted to at most 16 well-formed purposes")]
    PurposesInvalid = 18,
    /// Shorter than 15 or longer than 1,024 bytes.
    #[error("a passphrase has 15 to 1024 bytes")]
    PassphraseLength = 19,
}

impl Invalid {
    /// Every kind, by code.
    pub const ALL: [Self; 19] = [
        Self::PanLength,
        Self::PanLuhn,
        Self::SsnLength,
        Self::SsnNeverIssued,
        Self::ExpiryInvalid,
        Self::NameInvalid,
        Self::TokenMalformed,
        Self::SensitiveAuthenticationData,
        Self::SensitiveText,
        Self::TextMalformed,
        Self::FieldMissing,
        Self::BatchEmpty,
        Self::BatchTooLarge,
        Self::LastFourMalformed,
        Self::WrongClass,
        Self::RangeInvalid,
        Self::LeafHashMismatch,
        Self::PurposesInvalid,
        Self::PassphraseLength,
    ];

    /// The kind of a stored code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|invalid| *invalid as u8 == code)
    }

    /// The stable reason, as it stands in `google.rpc.ErrorInfo.reason`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::PanLength => "PAN_LENGTH",
            Self::PanLuhn => "PAN_LUHN",
            Self::SsnLength => "SSN_LENGTH",
            Self::SsnNeverIssued => "SSN_NEVER_ISSUED",
            Self::ExpiryInvalid => "EXPIRY_INVALID",
            Self::NameInvalid => "NAME_INVALID",
            Self::TokenMalformed => "TOKEN_MALFORMED",
            Self::SensitiveAuthenticationData => "SENSITIVE_AUTHENTICATION_DATA",
            Self::SensitiveText => "SENSITIVE_TEXT",
            Self::TextMalformed => "TEXT_MALFORMED",
            Self::FieldMissing => "FIELD_MISSING",
            Self::BatchEmpty => "BATCH_EMPTY",
            Self::BatchTooLarge => "BATCH_TOO_LARGE",
            Self::LastFourMalformed => "LAST_FOUR_MALFORMED",
            Self::WrongClass => "WRONG_CLASS",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::LeafHashMismatch => "LEAF_HASH_MISMATCH",
            Self::PurposesInvalid => "PURPOSES_INVALID",
            Self::PassphraseLength => "PASSPHRASE_LENGTH",
        }
    }
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Exhausted {
    /// A quota of the policy; the next window begins in so many seconds.
    #[error("a quota of the policy is used up")]
    Quota {
        /// Seconds until the window of this quota ends.
        retry_after_seconds: u32,
    },
    /// The lane, or this principal's quarter of it, is full.
    #[error("the vault is busy")]
    Busy,
}

/// Which state forbids the call.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum State {
    /// The keys are not in memory.
    #[error("the vault is sealed")]
    Sealed,
    /// The tenant keeps no blind index.
    #[error("this tenant keeps no index")]
    NoIndex,
    /// The record is deactivated.
    #[error("the token is inactive")]
    TokenInactive,
    /// The key that should encrypt is beyond its cryptoperiod, and its successor could not be enabled.
    #[error("the key is beyond its cryptoperiod")]
    KeyExpired,
    /// The tenant has no such key version, or it is destroyed already.
    #[error("there is no such key version")]
    NoSuchKey,
    /// The key version encrypts, or records, index rows or idempotency rows may still stand under it; or as
    /// many retired versions are kept as may be.
    #[error("retired keys are still needed: a rewrap has to be proven, and a day has to pass")]
    KeyInUse,
    /// Of the daemons that share the store not every one has confirmed that it has the keyring of now.
    #[error("another daemon has not confirmed yet that it has the last change of the keyring")]
    KeyUnconfirmed,
}

/// Why a step of a ceremony was refused. [`CeremonyFault::reason`] is part of the API, the code part of
/// journal and log; neither changes its meaning.
#[derive(Clone, Copy, Debug, Eq, Error, Hash, PartialEq)]
#[repr(u8)]
pub enum CeremonyFault {
    /// No shares open this vault, or no passphrase does.
    #[error("the vault is sealed in another way: its status says how")]
    OtherSeal = 1,
    /// There is nothing to gather shares for.
    #[error("the vault is unsealed already")]
    Unsealed = 2,
    /// Somebody else began one.
    #[error("another ceremony is open: the status names it; join it, or cancel it first")]
    AlreadyOpen = 3,
    /// It ended, expired, was cancelled, or never was.
    #[error("no ceremony of this name is open: the status says which is")]
    NotOpen = 4,
    /// One custodian gives one share.
    #[error("you have given a share to this ceremony already: another custodian has to give the next")]
    GaveAlready = 5,
    /// No share, or not as it was written.
    #[error("this is not a share, or it is incomplete or mistyped")]
    ShareMalformed = 6,
    /// Keys of one environment never open another.
    #[error("this share is of a vault of another environment")]
    ShareForeign = 7,
    /// Another vault's, or dealt before the present ones.
    #[error("this share is of another set: of another vault, or from before the last ceremony")]
    ShareOtherSet = 8,
    /// It bears the name of this set and is none of its shares.
    #[error("this share is not the one that was dealt under its number")]
    ShareWrong = 9,
    /// Another custodian gave the same one.
    #[error("this share is there already: another share is needed")]
    ShareRepeated = 10,
    /// Each by itself is right.
    #[error("there are too few shares")]
    SharesTooFew = 11,
    /// A custodian knows what it takes on.
    #[error("the duties of custodians are to be accepted with each share, by the name of their present text")]
    DutiesNotAccepted = 12,
}

impl CeremonyFault {
    /// Every kind, by code.
    pub const ALL: [Self; 12] = [
        Self::OtherSeal,
        Self::Unsealed,
        Self::AlreadyOpen,
        Self::NotOpen,
        Self::GaveAlready,
        Self::ShareMalformed,
        Self::ShareForeign,
        Self::ShareOtherSet,
        Self::ShareWrong,
        Self::ShareRepeated,
        Self::SharesTooFew,
        Self::DutiesNotAccepted,
    ];

    /// The kind of a stored code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| *fault as u8 == code)
    }

    /// The stable reason, as it stands in `google.rpc.ErrorInfo.reason`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::OtherSeal => "OTHER_SEAL",
            Self::Unsealed => "UNSEALED",
            Self::AlreadyOpen => "CEREMONY_OPEN",
            Self::NotOpen => "NO_CEREMONY",
            Self::GaveAlready => "GAVE_ALREADY",
            Self::ShareMalformed => "SHARE_MALFORMED",
            Self::ShareForeign => "SHARE_FOREIGN",
            Self::ShareOtherSet => "SHARE_OTHER_SET",
            Self::ShareWrong => "SHARE_WRONG",
            Self::ShareRepeated => "SHARE_REPEATED",
            Self::SharesTooFew => "SHARES_TOO_FEW",
            Self::DutiesNotAccepted => "DUTIES_NOT_ACCEPTED",
        }
    }
}

/// Why an HSM did not give what opens the vault. [`HsmFault::reason`] is part of the API, the code part of
/// journal and log; neither changes its meaning.
#[derive(Clone, Copy, Debug, Eq, Error, Hash, PartialEq)]
#[repr(u8)]
pub enum HsmFault {
    /// There is nobody to ask.
    #[error("an HSM is needed, and none is configured")]
    NotConfigured = 1,
    /// The module is missing, is none, or does not start.
    #[error("the PKCS#11 module cannot be used")]
    Module = 2,
    /// Not there, or not any more.
    #[error("no token of the configured label and serial number is there")]
    Away = 3,
    /// Whichever were taken, it might be the wrong one.
    #[error("more than one token fits what is configured: its serial number tells them apart")]
    Ambiguous = 4,
    /// Missing, of a length that no PIN has, or open to others.
    #[error("the PIN cannot be read")]
    PinFile = 5,
    /// The token says so, and has counted it.
    #[error("the PIN is wrong")]
    WrongPin = 6,
    /// The token counts wrong PINs and locks itself: this one is not tried without a person who wants it.
    #[error("a wrong PIN was given before, and no PIN is tried again without being asked to")]
    PinSpared = 7,
    /// Another wrong one would lock the token, or has.
    #[error("the token's PIN is locked, or has one try left, which is not for the vault to use up")]
    PinLocked = 8,
    /// Another token of the same name, or the key was deleted.
    #[error("the token has no key of this vault, or more than one")]
    NoKey = 9,
    /// It has the name of this vault's key, and is another.
    #[error("the token's key is not the one that the vault was sealed with")]
    OtherKey = 10,
    /// A key that can leave the token is nothing to rely on.
    #[error("the token's key is not sensitive, or can be extracted")]
    KeyExposed = 11,
    /// Its mechanisms are not those that the vault needs, or do not do what they should.
    #[error("the token cannot do what the vault asks of it")]
    Unfit = 12,
    /// Anything else, of which the module says no more than a number.
    #[error("the HSM failed")]
    Failed = 13,
}

impl HsmFault {
    /// Every kind, by code.
    pub const ALL: [Self; 13] = [
        Self::NotConfigured,
        Self::Module,
        Self::Away,
        Self::Ambiguous,
        Self::PinFile,
        Self::WrongPin,
        Self::PinSpared,
        Self::PinLocked,
        Self::NoKey,
        Self::OtherKey,
        Self::KeyExposed,
        Self::Unfit,
        Self::Failed,
    ];

    /// The kind of a stored code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| *fault as u8 == code)
    }

    /// The stable reason, as it stands in `google.rpc.ErrorInfo.reason`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotConfigured => "HSM_NOT_CONFIGURED",
            Self::Module => "HSM_MODULE",
            Self::Away => "HSM_AWAY",
            Self::Ambiguous => "HSM_AMBIGUOUS",
            Self::PinFile => "HSM_PIN_FILE",
            Self::WrongPin => "HSM_WRONG_PIN",
            Self::PinSpared => "HSM_PIN_SPARED",
            Self::PinLocked => "HSM_PIN_LOCKED",
            Self::NoKey => "HSM_NO_KEY",
            Self::OtherKey => "HSM_OTHER_KEY",
            Self::KeyExposed => "HSM_KEY_EXPOSED",
            Self::Unfit => "HSM_UNFIT",
            Self::Failed => "HSM_FAILED",
        }
    }

    /// Whether it may be over by itself, and trying costs no PIN: only then is it tried again without a
    /// person.
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::Module | Self::Away)
    }
}

/// Why the store could not answer.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Unavailable {
    /// Nothing was written.
    #[error("the store is away; nothing was written")]
    Store,
    /// The commit may or may not have happened; repeat with the same idempotency key.
    #[error("the outcome is unknown; repeat with the same idempotency key")]
    OutcomeUnknown,
}

impl Error {
    /// The stable reason, as it stands in `google.rpc.ErrorInfo.reason`.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(invalid) => invalid.reason(),
            Self::UnknownToken => "UNKNOWN_TOKEN",
            Self::Denied => "DENIED",
            Self::Exhausted(Exhausted::Quota { .. }) => "QUOTA",
            Self::Exhausted(Exhausted::Busy) => "BUSY",
            Self::IdempotencyKeyReused => "IDEMPOTENCY_KEY_REUSED",
            Self::State(State::Sealed) => "SEALED",
            Self::State(State::NoIndex) => "NO_INDEX",
            Self::State(State::TokenInactive) => "TOKEN_INACTIVE",
            Self::Ceremony(fault) => fault.reason(),
            Self::State(State::KeyExpired) => "KEY_EXPIRED",
            Self::State(State::NoSuchKey) => "NO_SUCH_KEY",
            Self::State(State::KeyInUse) => "KEY_IN_USE",
            Self::State(State::KeyUnconfirmed) => "KEY_UNCONFIRMED",
            Self::Unavailable(Unavailable::Store) => "STORE",
            Self::Unavailable(Unavailable::OutcomeUnknown) => "OUTCOME_UNKNOWN",
            Self::Corrupt => "CORRUPT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Bug => "BUG",
        }
    }
}
