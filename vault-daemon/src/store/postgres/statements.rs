//! The statements, and commits as arrays for them.

use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;
use vault_core::store::{Key, Writes};

use super::fault::Failure;
use super::pool::Fence;
use super::session::Session;

/// One batch's reads: one snapshot, one round trip.
const READ: &str = "SELECT w.place, r.version, r.value
FROM unnest($1::smallint[], $2::text[], $3::bytea[]) WITH ORDINALITY AS w (space, tenant, key, place)
JOIN vault.rows r ON r.space = w.space AND r.tenant = w.tenant AND r.key = w.key";

/// A part of one tenant's rows, cut where the values before have filled it.
const SCAN: &str = "SELECT key, version, value FROM (
    SELECT key, version, value, coalesce(sum(octet_length(value))
        OVER (ORDER BY key ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
        SELECT key, version, value FROM vault.rows
        WHERE space = $1 AND tenant = $2 AND key >= $3 ORDER BY key LIMIT $4
    ) found
) part WHERE before < $5::bigint ORDER BY key";

/// One commit: 1 done, 0 fenced off; a division by zero undoes everything where a precondition does not hold.
///
/// READ COMMITTED: a row that another commit has locked is waited for and looked at again, with the version
/// it has then. The rows come in the order of their keys, so that commits of several daemons mostly
/// wait for one another in one order. Replacing, deleting and inserting are parts of their own: where two
/// wait in a circle all the same, the server ends one after a second, which is a conflict like any other.
const COMMIT: &str = "WITH fence AS MATERIALIZED (
    SELECT 1 FROM vault.writers WHERE name = $1 AND epoch = $2 FOR SHARE
), change AS MATERIALIZED (
    SELECT space, tenant, key, expected, value
    FROM unnest($3::smallint[], $4::text[], $5::bytea[], $6::bigint[], $7::bytea[])
        AS given (space, tenant, key, expected, value)
    WHERE EXISTS (SELECT 1 FROM fence)
), replaced AS (
    UPDATE vault.rows r SET version = r.version + 1, value = c.value FROM change c
    WHERE r.space = c.space AND r.tenant = c.tenant AND r.key = c.key AND r.version = c.expected
        AND c.value IS NOT NULL
    RETURNING 1
), deleted AS (
    DELETE FROM vault.rows r USING change c
    WHERE r.space = c.space AND r.tenant = c.tenant AND r.key = c.key AND r.version = c.expected
        AND c.value IS NULL
    RETURNING 1
), inserted AS (
    INSERT INTO vault.rows (space, tenant, key, version, value)
    SELECT space, tenant, key, 1, value FROM change WHERE expected IS NULL
    RETURNING 1
)
SELECT CASE
    WHEN NOT EXISTS (SELECT 1 FROM fence) THEN 0
    ELSE 1 / (CASE WHEN (SELECT count(*) FROM replaced) + (SELECT count(*) FROM deleted)
        + (SELECT count(*) FROM inserted) = cardinality($3::smallint[]) THEN 1 ELSE 0 END)
END";
/// The commit's answer when another process writes this log, and nothing was written.
pub(super) const COMMIT_FENCED: i32 = 0;

/// Whoever opens a log fences everybody off who had it before.
pub(super) const RAISE: &str = "INSERT INTO vault.writers (name, epoch) VALUES ($1, 1)
ON CONFLICT (name) DO UPDATE SET epoch = vault.writers.epoch + 1 RETURNING epoch";
/// Held for as long as its session lives: a second process with the same log is refused.
pub(super) const CLAIM: &str = "SELECT pg_try_advisory_lock($1)";
/// The rows with their index and what lies beside them.
pub(super) const DISK_BYTES: &str = "SELECT pg_total_relation_size('vault.rows')";

/// The statements of one session, prepared.
pub(super) struct Statements {
    pub(super) read: Statement,
    pub(super) scan: Statement,
    pub(super) commit: Statement,
}

impl Statements {
    pub(super) fn prepare(session: &mut Session) -> Result<Self, Failure> {
        Ok(Self {
            read: session.prepare(READ)?,
            scan: session.prepare(SCAN)?,
            commit: session.prepare(COMMIT)?,
        })
    }
}

/// Keys, column by column.
#[derive(Default)]
pub(super) struct KeyArrays<'a> {
    spaces: Vec<i16>,
    tenants: Vec<&'a str>,
    keys: Vec<&'a [u8]>,
}

impl<'a> KeyArrays<'a> {
    pub(super) fn of(keys: impl IntoIterator<Item = &'a Key>) -> Self {
        let mut arrays = Self::default();
        keys.into_iter().for_each(|key| arrays.push(key));
        arrays
    }

    fn push(&mut self, key: &'a Key) {
        self.spaces.push(i16::from(key.space().code()));
        self.tenants.push(key.tenant());
        self.keys.push(key.bytes());
    }

    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.spaces, &self.tenants, &self.keys]
    }
}

/// The changes of a commit, column by column, in the order of their keys.
#[derive(Default)]
pub(super) struct CommitArrays<'a> {
    keys: KeyArrays<'a>,
    /// None: there must be no row.
    expected: Vec<Option<i64>>,
    /// None: the row goes.
    values: Vec<Option<&'a [u8]>>,
}

impl<'a> CommitArrays<'a> {
    pub(super) fn of(writes: &'a Writes) -> Self {
        let mut changes: Vec<_> = writes.iter().collect();
        changes.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let mut arrays = Self::default();
        for (key, change) in changes {
            arrays.keys.push(key);
            // No row has a version beyond what the column holds: the precondition fails, as it should.
            arrays.expected.push(change.expected().map(|version| i64::try_from(version).unwrap_or(i64::MAX)));
            arrays.values.push(change.after().map(|(_, value)| value));
        }
        arrays
    }

    pub(super) fn parameters<'b>(&'b self, fence: &'b Fence<'_>) -> [&'b (dyn ToSql + Sync); 7] {
        let [spaces, tenants, keys] = self.keys.parameters();
        [&fence.log, &fence.epoch, spaces, tenants, keys, &self.expected, &self.values]
    }
}
