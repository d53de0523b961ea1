//! Every bound of the vault, with its unit and the reason for it.

/// Fewest digits of a PAN (ISO/IEC 7812 as the networks use it).
pub const PAN_DIGITS_MIN: usize = 12;
/// Most digits of a PAN (ISO/IEC 7812-1).
pub const PAN_DIGITS_MAX: usize = 19;
/// Digits of a social security number.
pub const SSN_DIGITS: usize = 9;
/// Bytes of input looked at for one value: 19 digits, a separator between each, and nothing else.
pub const VALUE_INPUT_BYTES_MAX: usize = 64;
/// Bytes of a cardholder's name, UTF-8.
pub const CARDHOLDER_NAME_BYTES_MAX: usize = 64;
/// Plaintext bytes of every PAN record before encryption, so that sizes tell nothing.
pub const PAN_PADDED_BYTES: usize = 96;
/// Plaintext bytes of every SSN record before encryption.
pub const SSN_PADDED_BYTES: usize = 16;

/// Letters after a token's prefix: 128 random bits and a 32-bit tag, four bits a letter.
pub const TOKEN_LETTERS: usize = 40;
/// Bytes of caller-given text (references, idempotency keys, cases).
pub const CALLER_TEXT_BYTES_MAX: usize = 64;
/// Bytes of a name chosen in the policy (tenant, principal, purpose, recipient) or at `init`.
pub const NAME_BYTES_MAX: usize = 32;
/// Purposes one record can be restricted to.
pub const RECORD_PURPOSES_MAX: usize = 16;

/// Bytes of a policy file: far above ten thousand principals.
pub const POLICY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of a path in a refusal of a policy file: unknown keys are part of it, and it goes to the log.
pub const POLICY_ERROR_PATH_BYTES_MAX: usize = 256;
/// Tenants of one policy: what a keyring file holds.
pub const POLICY_TENANTS_MAX: usize = 256;
/// Purposes of one policy: each stands for a text that people were told.
pub const POLICY_PURPOSES_MAX: usize = 1_000;
/// Recipients of one policy.
pub const POLICY_RECIPIENTS_MAX: usize = 1_000;
/// Principals of one policy.
pub const POLICY_PRINCIPALS_MAX: usize = 10_000;
/// Purposes one principal can list: whoever needs more is several principals.
pub const PRINCIPAL_PURPOSES_MAX: usize = 64;
/// Recipients one principal can list.
pub const PRINCIPAL_RECIPIENTS_MAX: usize = 64;
/// Bytes of a URI that identifies a client: the bound of a SPIFFE ID.
pub const IDENTITY_BYTES_MAX: usize = 2_048;
/// Versions of the keys of one tenant and class that are not destroyed: eight years of quarters.
pub const KEY_VERSIONS_MAX: usize = 32;
/// Bytes of a keyring file: 256 tenants with 2 classes and as many versions each stay below.
pub const KEYRING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Days for which a key version encrypts: the longest originator usage period of SP 800-57 part 1, table 1.
pub const KEY_ENCRYPTS_DAYS_MAX: u64 = 730;
/// Days from its enabling within which a key version should be destroyed: three years more (same table).
pub const KEY_DECRYPTS_DAYS_MAX: u64 = KEY_ENCRYPTS_DAYS_MAX + 3 * 365;
/// Days after which the vault enables the next key version by itself: well within the period, since more
/// data under one key is more lost with it.
pub const KEY_ROTATED_AFTER_DAYS: u64 = 90;
/// Shortest passphrase of a passphrase seal, bytes (NIST SP 800-63B-4: 15 for a single factor).
pub const PASSPHRASE_BYTES_MIN: usize = 15;
/// Longest passphrase, bytes: bounds what an unseal call can make the vault hash.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;
/// Fewest shares that open a vault: one alone would be one person alone (PCI DSS 3.7.6).
pub const SHARES_MIN: u8 = 2;
/// Most shares of one set: more custodians than any sane duty roster has.
pub const SHARES_MAX: u8 = 16;
/// Bytes of a share's text: with the longest environment 144, and room for white space around it.
pub const SHARE_TEXT_BYTES_MAX: usize = 160;
/// Seconds from the beginning of a ceremony to its end, complete or not: custodians are called together for
/// it, and what they give must not wait in memory for long.
pub const CEREMONY_SECONDS: u64 = 30 * 60;
/// Records kept in the journal beside the keyring until the next unseal; older ones are summed.
pub const UNSEAL_JOURNAL_ENTRIES_MAX: usize = 1_000;
/// Callers without the right to open or close the vault who get a record in the journal in one minute, while
/// no log can be written: bounds what they can make the vault write, sync and remember.
pub const DENIED_CALLERS_MAX: usize = 60;
/// Calls of one of them in one minute; beyond it the caller is told to wait.
pub const DENIED_CALLS_PER_MINUTE: u32 = 60;
/// Logs one anchor can hold: one per daemon.
pub const ANCHOR_LOGS_MAX: usize = 32;
/// Bytes of a log's origin: 32 logs with origins of this length fit one 4 KiB slot of the anchor.
pub const ORIGIN_BYTES_MAX: usize = 80;

/// Items of one batch RPC.
pub const BATCH_ITEMS_MAX: usize = 1_000;
/// Items the lane takes into one commit; one batch RPC always fits.
pub const COMMIT_ITEMS_MAX: usize = 2_048;
/// Items waiting in the lane; beyond it callers are told `BUSY`.
pub const LANE_ITEMS_MAX: usize = 16_384;
/// Times a batch is planned again on fresh reads after a conflict.
pub const CONFLICT_RETRIES_MAX: usize = 8;

/// Idempotency rows and their traces that one commit erases; what is more goes with repeated calls.
pub const ERASE_ROWS_MAX: usize = COMMIT_ROWS_MAX / 4;
/// Records that one step of a rewrap looks at: at most some milliseconds of the lane.
pub const REWRAP_ROWS_MAX: usize = 256;
/// Seconds an idempotency key is kept.
pub const IDEMPOTENCY_SECONDS: u64 = 24 * 60 * 60;
/// Changes of the keyring that wait in a shared store for daemons that are away: more than some weeks bring.
pub const KEY_CHANGES_WAITING_MAX: usize = 32;
/// Seconds after its last step for which work on a shared store stays with the daemon that did it.
pub const LEASE_SECONDS: u64 = 30;
/// Requests per minute that get an entry for a valid certificate without a principal.
pub const STRANGER_ENTRIES_PER_MINUTE: u32 = 60;
/// Parts in which daemons that share a store draw a quota: what one has drawn and not used, others refuse
/// early.
pub const QUOTA_SLICES: u32 = 64;
/// Tokens counted against a day that are kept in memory, over all limits: 160 MiB at most. Beyond it a token
/// counts each time it is asked for.
pub const SEEN_TOKENS_MAX: usize = 4 * 1024 * 1024;

/// Rows one scan returns.
pub const SCAN_ROWS_MAX: usize = 1_024;
/// Bytes of values after which a scan returns what it has, so that pages of the log cannot fill the memory.
pub const SCAN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of values that one commit of a move writes, beyond its first row.
pub const MOVED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of an encoded row key: space, tenant and what is unique within them.
pub const ROW_KEY_BYTES_MAX: usize = 512;
/// Bytes of a row's value: a log page of `COMMIT_ITEMS_MAX` entries of `ENTRY_BYTES_MAX` stays well below.
pub const ROW_VALUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Rows one commit changes: every item of the fullest commit may touch eight rows.
pub const COMMIT_ROWS_MAX: usize = 8 * COMMIT_ITEMS_MAX;
/// Bytes of one encoded audit entry.
pub const ENTRY_BYTES_MAX: usize = 1_024;
/// Entries of one page of the audit log: twice a commit's items, for the vault's own entries beside them.
pub const PAGE_ENTRIES_MAX: usize = 4_096;
/// Entries of one log: 2^48, 89 years at 100,000 a second.
pub const LOG_ENTRIES_MAX: u64 = 1 << 48;
/// Bytes of a checkpoint: 16 signatures stay below, even post-quantum ones of witnesses.
pub const CHECKPOINT_BYTES_MAX: usize = 64 * 1024;
/// Signatures of one checkpoint, witnesses' included.
pub const CHECKPOINT_SIGNATURES_MAX: usize = 16;
/// Hashes of a full tile of the audit log (C2SP tlog-tiles).
pub const TILE_HASHES: usize = 256;
/// Pages of the audit log that are read at once, where that many are wanted; a scan's bytes bound them too.
pub const LOG_PAGES_AHEAD_MAX: usize = 64;
/// Entries one audit RPC returns.
pub const AUDIT_ENTRIES_MAX: usize = 500;

/// Bytes of a unary message to or from `Tokenization`, `Audit` and `Custody`.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a batch message.
pub const BATCH_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
