-- Every row of the vault. What the columns mean: docs/format/postgres.md.
CREATE TABLE vault.rows (
    space   smallint NOT NULL,
    tenant  text COLLATE "C" NOT NULL,
    key     bytea NOT NULL,
    version bigint NOT NULL,
    value   bytea NOT NULL,
    PRIMARY KEY (space, tenant, key)
);

-- Who writes which audit log: a commit names the epoch it was opened in, and is refused in any later one.
CREATE TABLE vault.writers (
    name  text COLLATE "C" NOT NULL PRIMARY KEY,
    epoch bigint NOT NULL
);
