//! What was done and how it ended, as codes that never change their meaning.

use crate::error::{CeremonyFault, Error, Exhausted, HsmFault, Invalid, State};
use crate::policy::Right;

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// What an entry records. The code is part of the log's format: a new action gets a new code.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u8)]
        pub enum Action {
            $($(#[$doc])* $name = $code,)*
        }

        impl Action {
            /// Every action, by code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code in the encoded entry.
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// The action of a code; `None` for a code that no release ever wrote.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name in listings: lower case, words joined by hyphens.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

actions! {
    /// A value became a token.
    Tokenize = 1, "tokenize";
    /// A token became its value again.
    Detokenize = 2, "detokenize";
    /// The masked value was shown, last four at most.
    View = 3, "view";
    /// The masked value was shown with its BIN.
    ViewBin = 4, "view-bin";
    /// Four digits were compared with the value's last four.
    Compare = 5, "compare";
    /// A token was looked up by value.
    FindByValue = 6, "find-by-value";
    /// A proof was given.
    Prove = 7, "prove";
    /// Entries of this log were read.
    AuditRead = 8, "audit-read";
    /// The vault's status was read.
    Status = 9, "status";
    /// The keys were taken into memory.
    Unseal = 10, "unseal";
    /// The keys were wiped.
    Seal = 11, "seal";
    /// The vault removed expired rows.
    Sweep = 12, "sweep";
    /// The vault proved its store against this log.
    Check = 13, "check";
    /// A value, its token and all that led to it were removed.
    Erase = 14, "erase";
    /// The vault encrypted old records under the key of now, or proved that none is left.
    Rewrap = 15, "rewrap";
    /// A custodian had the next key version encrypt.
    RotateKeys = 16, "rotate-keys";
    /// A custodian had a retired key version destroyed.
    DestroyKeys = 17, "destroy-keys";
    /// The vault was created.
    Init = 32, "init";
    /// An attempt to unseal failed; entered at the next unseal, with the time of the attempt.
    UnsealRefused = 33, "unseal-refused";
    /// A policy was loaded; the entry's policy is the new one.
    PolicyLoaded = 34, "policy-loaded";
    /// An operator accepted a log that does not extend its anchor.
    AnchorAccepted = 35, "anchor-accepted";
    /// Requests beyond a quota, summed per principal and minute.
    QuotaSummary = 36, "quota-summary";
    /// A program that keeps its own keyring began to write this log.
    LogOpened = 37, "log-opened";
    /// The store moved to another engine; the note names the two.
    StoreMoved = 38, "store-moved";
    /// The program ended in good order and wiped the keys.
    Stop = 39, "stop";
    /// The vault found its integrity in doubt and wiped the keys.
    SelfSeal = 40, "self-seal";
    /// A key version was drawn; it decrypts and does not encrypt yet.
    KeyIntroduced = 41, "key-introduced";
    /// A key version encrypts from now on; the one that did only decrypts.
    KeyEnabled = 42, "key-enabled";
    /// A key version was destroyed in every copy of the keyring.
    KeyDestroyed = 43, "key-destroyed";
    /// A daemon that shares its store with others began to write this log.
    LogRegistered = 44, "log-registered";
    /// The registration of another daemon ended; the reference names its log.
    LogRetired = 45, "log-retired";
    /// All daemons are told of a key version that is about to encrypt.
    KeyAnnounced = 46, "key-announced";
    /// This daemon has in both copies, and in force, what was made of the keyring; the note names its
    /// generation.
    KeyringTaken = 47, "keyring-taken";
    /// A custodian began a ceremony; the note names it.
    CeremonyBegun = 48, "ceremony-begun";
    /// A custodian gave a share to a ceremony; the note names both.
    ShareGiven = 49, "share-given";
    /// A custodian cancelled a ceremony.
    CeremonyCancelled = 50, "ceremony-cancelled";
    /// A ceremony ended because its time was over.
    CeremonyExpired = 51, "ceremony-expired";
    /// An operator with what opens the vault began to seal it anew.
    ResealBegun = 52, "reseal-begun";
    /// The vault has another root key under another seal.
    Resealed = 53, "resealed";
}

impl Action {
    /// The action that a right allows.
    pub const fn of(right: Right) -> Self {
        match right {
            Right::Tokenize => Self::Tokenize,
            Right::Detokenize => Self::Detokenize,
            Right::View => Self::View,
            Right::ViewBin => Self::ViewBin,
            Right::Compare => Self::Compare,
            Right::FindByValue => Self::FindByValue,
            Right::Prove => Self::Prove,
            Right::AuditRead => Self::AuditRead,
            Right::Status => Self::Status,
            Right::Unseal => Self::Unseal,
            Right::Seal => Self::Seal,
            Right::Sweep => Self::Sweep,
            Right::Check => Self::Check,
            Right::Erase => Self::Erase,
            Right::Rewrap => Self::Rewrap,
            Right::RotateKeys => Self::RotateKeys,
            Right::DestroyKeys => Self::DestroyKeys,
        }
    }
}

/// How it ended. *Done* means released, not received: the entry is durable before the answer leaves.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// The request was carried out and its answer released.
    Done,
    /// The stored answer to the same idempotency key was released again.
    Replayed,
    /// The value already had a token, where the tenant has one per value: that token was released, nothing
    /// written.
    Existing,
    /// The right was given, and entered before what was asked for is done: the log read, a proof made, the
    /// status told, the vault sealed. Whether there was an answer in the end the entry cannot say.
    Granted,
    /// The policy does not allow it, or the caller has no principal.
    Denied,
    /// Bad tag, unknown, erased, foreign or outside the record's purposes.
    UnknownToken,
    /// A quota was used up.
    Quota,
    /// The request was wrong.
    Invalid(Invalid),
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// The tenant keeps no index.
    NoIndex,
    /// The record is deactivated.
    TokenInactive,
    /// The key that should encrypt is beyond its cryptoperiod.
    KeyExpired,
    /// A stored row did not authenticate.
    Corrupt,
    /// A defect of the vault ended the request.
    Bug,
    /// The passphrase (or share) does not open the keyring.
    WrongPassphrase,
    /// The keyring is missing, damaged, of another vault or below the compiled-in floor.
    KeyringUnusable,
    /// How it ended is not known: the attempt was cut off, or only its number was kept.
    Unsettled,
    /// A step of a ceremony did not fit, or its share.
    Ceremony(CeremonyFault),
    /// The HSM did not give what opens the vault.
    Hsm(HsmFault),
}

impl Outcome {
    /// The stable reason: `DONE`, `REPLAYED`, `EXISTING`, `GRANTED`, or the reason the caller was given.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Done => "DONE",
            Self::Replayed => "REPLAYED",
            Self::Existing => "EXISTING",
            Self::Granted => "GRANTED",
            Self::Denied => "DENIED",
            Self::UnknownToken => "UNKNOWN_TOKEN",
            Self::Quota => "QUOTA",
            Self::Invalid(invalid) => invalid.reason(),
            Self::IdempotencyKeyReused => "IDEMPOTENCY_KEY_REUSED",
            Self::NoIndex => "NO_INDEX",
            Self::TokenInactive => "TOKEN_INACTIVE",
            Self::KeyExpired => "KEY_EXPIRED",
            Self::Corrupt => "CORRUPT",
            Self::Bug => "BUG",
            Self::WrongPassphrase => "WRONG_PASSPHRASE",
            Self::KeyringUnusable => "KEYRING_UNUSABLE",
            Self::Unsettled => "UNSETTLED",
            Self::Ceremony(fault) => fault.reason(),
            Self::Hsm(fault) => fault.reason(),
        }
    }

    /// Whether an answer was allowed to leave.
    pub const fn released(self) -> bool {
        matches!(self, Self::Done | Self::Replayed | Self::Existing | Self::Granted)
    }

    /// The outcome of a request refused with `error`; `None` for refusals that no entry records, since the
    /// request never reached the policy, was entered as granted before, or the log cannot be written.
    pub const fn of_refusal(error: &Error) -> Option<Self> {
        Some(match error {
            Error::Invalid(invalid) => Self::Invalid(*invalid),
            Error::UnknownToken => Self::UnknownToken,
            Error::Denied => Self::Denied,
            Error::Exhausted(Exhausted::Quota { .. }) => Self::Quota,
            Error::IdempotencyKeyReused => Self::IdempotencyKeyReused,
            Error::State(State::NoIndex) => Self::NoIndex,
            Error::State(State::TokenInactive) => Self::TokenInactive,
            Error::Ceremony(fault) => Self::Ceremony(*fault),
            Error::State(State::KeyExpired) => Self::KeyExpired,
            Error::Corrupt => Self::Corrupt,
            Error::Bug => Self::Bug,
            Error::Exhausted(Exhausted::Busy)
            | Error::State(State::Sealed | State::NoSuchKey | State::KeyInUse | State::KeyUnconfirmed)
            | Error::Unavailable(_)
            | Error::DeadlineExceeded => return None,
        })
    }

    /// The two bytes in the encoded entry: the code, and which rule of [`Invalid`] was broken, which
    /// [`CeremonyFault`] or [`HsmFault`] it was, or 0.
    pub const fn code(self) -> [u8; 2] {
        match self {
            Self::Done => [1, 0],
            Self::Replayed => [2, 0],
            Self::Existing => [3, 0],
            Self::Granted => [4, 0],
            Self::Denied => [16, 0],
            Self::UnknownToken => [17, 0],
            Self::Quota => [18, 0],
            Self::Invalid(invalid) => [19, invalid_code(invalid)],
            Self::IdempotencyKeyReused => [20, 0],
            Self::NoIndex => [21, 0],
            Self::TokenInactive => [22, 0],
            Self::KeyExpired => [25, 0],
            Self::Corrupt => [23, 0],
            Self::Bug => [24, 0],
            Self::WrongPassphrase => [32, 0],
            Self::KeyringUnusable => [33, 0],
            Self::Unsettled => [34, 0],
            Self::Ceremony(fault) => [48, fault as u8],
            Self::Hsm(fault) => [49, fault as u8],
        }
    }

    /// The outcome of two bytes; `None` for bytes that no release ever wrote.
    pub fn from_code(code: [u8; 2]) -> Option<Self> {
        Some(match code {
            [1, 0] => Self::Done,
            [2, 0] => Self::Replayed,
            [3, 0] => Self::Existing,
            [4, 0] => Self::Granted,
            [16, 0] => Self::Denied,
            [17, 0] => Self::UnknownToken,
            [18, 0] => Self::Quota,
            [19, invalid] => match invalid_from_code(invalid) {
                Some(invalid) => Self::Invalid(invalid),
                None => return None,
            },
            [20, 0] => Self::IdempotencyKeyReused,
            [21, 0] => Self::NoIndex,
            [22, 0] => Self::TokenInactive,
            [25, 0] => Self::KeyExpired,
            [23, 0] => Self::Corrupt,
            [24, 0] => Self::Bug,
            [32, 0] => Self::WrongPassphrase,
            [33, 0] => Self::KeyringUnusable,
            [34, 0] => Self::Unsettled,
            [48, fault] => Self::Ceremony(CeremonyFault::from_code(fault)?),
            [49, fault] => Self::Hsm(HsmFault::from_code(fault)?),
            _ => return None,
        })
    }
}

/// Lists every rule once: a new one does not compile until it stands here.
macro_rules! invalid_codes {
    ($($name:ident)*) => {
        const fn invalid_code(invalid: Invalid) -> u8 {
            match invalid {
                $(Invalid::$name => Invalid::$name as u8,)*
            }
        }

        const fn invalid_from_code(code: u8) -> Option<Invalid> {
            $(if code == Invalid::$name as u8 {
                return Some(Invalid::$name);
            })*
            None
        }
    };
}

invalid_codes! {
    PanLength PanLuhn SsnLength SsnNeverIssued ExpiryInvalid NameInvalid TokenMalformed
    SensitiveAuthenticationData SensitiveText TextMalformed FieldMissing BatchEmpty BatchTooLarge
    LastFourMalformed WrongClass RangeInvalid LeafHashMismatch PurposesInvalid PassphraseLength
}
