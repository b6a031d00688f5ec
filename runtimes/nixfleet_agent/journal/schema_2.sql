-- From version 1 to 2: what this host must not go back behind.
CREATE TABLE newest_release (
    only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
    rollout_id  TEXT NOT NULL,
    signed_at   TEXT NOT NULL
) STRICT;

CREATE TABLE rolled_back_closures (
    closure     TEXT PRIMARY KEY,
    rollout_id  TEXT NOT NULL,
    signed_at   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
