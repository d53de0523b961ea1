//! Every bound of the doors, with its unit and the reason for it.

use std::time::Duration;

use vault_core::limits::LANE_ITEMS_MAX;

/// Certificates of a chain that a client shows: a leaf and more intermediates than any sane PKI has.
pub const CHAIN_CERTIFICATES_MAX: usize = 6;
/// Longest validity of a certificate that no revocation list covers (`revocation = "short-lived"`).
pub const SHORT_LIVED_SECONDS: u64 = 7 * 24 * 60 * 60;
/// Client CAs of one door.
pub const CLIENT_CAS_MAX: usize = 32;
/// Certificates under one CA's name: the old and the new one while they change over, and room to spare.
pub const ANCHORS_PER_CA_MAX: usize = 8;
/// Revocation lists of one CA and its intermediates.
pub const CRLS_PER_CA_MAX: usize = 32;
/// Bytes of a file with certificates or a key, PEM.
pub const PEM_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Bytes of a file with a revocation list: about half a million revoked certificates.
pub const CRL_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Verified chains that the door remembers, so that neither a reconnect nor the regular re-check pays for
/// signatures again. Each takes a few hundred bytes.
pub const VERIFIED_CHAINS_MAX: usize = 8_192;
/// How often the files behind the door are looked at. DESIGN asks for 60 s from file to closed connection:
/// this, 15 s to the next re-check, 5 s of grace.
pub const FILES_POLL: Duration = Duration::from_secs(10);
/// Items of the lane that one identity may hold: a quarter, so that no client shuts the others out. Four full
/// batches fit.
pub const IDENTITY_LANE_ITEMS_MAX: usize = LANE_ITEMS_MAX / 4;
/// Readings of the log at once, each on a thread of its own that may wait for the store. Beyond it callers
/// are told `BUSY`, so that whoever seals or stops never waits for more than these.
pub const LOG_READS_MAX: usize = 16;
/// Key versions of one page: 64 KiB hold them, whatever the tenants are called.
pub const KEY_PAGE_MAX: usize = 200;
/// Further paths or ports of one kind that the daemon may reach.
pub const HARDENING_ENTRIES_MAX: usize = 32;
/// Bytes of the configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a file with the password of a database role.
pub const POSTGRES_PASSWORD_BYTES_MAX: u64 = 1_024;
/// Fewest bytes of a token's PIN.
pub const HSM_PIN_BYTES_MIN: usize = 4;
/// Most bytes of a token's PIN; PKCS#11 leaves it to the token, and none is known to take more.
pub const HSM_PIN_BYTES_MAX: usize = 255;
/// Slots of a module that are looked at for the token.
pub const HSM_SLOTS_MAX: usize = 256;
/// Bytes of a token's label; the bound of PKCS#11.
pub const HSM_LABEL_BYTES_MAX: usize = 32;
/// Bytes of a token's serial number; the bound of PKCS#11.
pub const HSM_SERIAL_BYTES_MAX: usize = 16;
/// How soon a token that is away is looked for again; twice as long each time.
pub const HSM_PAUSE_MIN: Duration = Duration::from_secs(1);
/// And at the latest.
pub const HSM_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Servers that may be the primary of one database.
pub const POSTGRES_HOSTS_MAX: usize = 8;
/// For one server to take a connection and let the role in: milliseconds, unless it is away.
pub const POSTGRES_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the farewell of a session that is no longer needed.
pub const POSTGRES_GOODBYE_TIMEOUT: Duration = Duration::from_millis(100);
/// A silent connection is asked for a sign of life after this long, by both ends.
pub const POSTGRES_KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// And again after this.
pub const POSTGRES_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// So many times, before it counts as lost.
pub const POSTGRES_KEEPALIVE_RETRIES: u32 = 3;
/// How long a log that another process seems to have is waited for: the server notices a killed one in
/// milliseconds.
pub const POSTGRES_CLAIM_PAUSE: Duration = Duration::from_millis(100);
/// So many times.
pub const POSTGRES_CLAIM_PAUSES_MAX: usize = 20;
/// Seconds by which the database's clock and this host's may differ: with windows of a minute, less than one.
pub const POSTGRES_CLOCK_SECONDS_MAX: u64 = 60;
