-- The agent's journal. Source: docs/spec/runtimes.md, Journal.

-- What this host lived, in order. Rows are kept after they were acknowledged, for a control plane that lost its own.
-- Numbers are not used twice: an answer that comes after its rows were removed must not mark others. Since version 4.
CREATE TABLE events (
    row_id           INTEGER PRIMARY KEY AUTOINCREMENT,
    rollout_id       TEXT NOT NULL,
    seq              INTEGER NOT NULL,
    fact             TEXT NOT NULL,
    emitted_at       TEXT NOT NULL,
    is_acknowledged  INTEGER NOT NULL DEFAULT 0,
    refused_reason   TEXT,
    UNIQUE (rollout_id, seq)
) STRICT;
CREATE INDEX events_unsent ON events (row_id) WHERE is_acknowledged = 0 AND refused_reason IS NULL;

CREATE TABLE rollouts (
    rollout_id      TEXT PRIMARY KEY,
    record          TEXT NOT NULL,
    policy          TEXT NOT NULL, -- the verified manifest's, whole; since version 5
    closed_at       TEXT,
    taken_over_seq  INTEGER NOT NULL DEFAULT 0, -- up to here the control plane remembered it, and this journal did not
    home_at         TEXT -- the control plane's latest answer before the switch began; since version 6
) STRICT, WITHOUT ROWID;

-- Acts that were decided and are not known to be over. Numbers are not used twice.
CREATE TABLE intents (
    intent_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT NOT NULL CHECK (kind IN ('switch', 'rollback')),
    rollout_id  TEXT NOT NULL,
    closure     TEXT NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0 -- how many processes began it; since version 3
) STRICT;

-- For good, whatever else is pruned: the newest release this host obeyed, and the closures it rolled back from. A control
-- plane that was taken over can replay what is signed and still fresh; these refuse it. Since version 2.
CREATE TABLE newest_release (
    only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
    rollout_id  TEXT NOT NULL,
    signed_at   TEXT NOT NULL
) STRICT;

CREATE TABLE rolled_back_closures (
    closure     TEXT PRIMARY KEY,
    rollout_id  TEXT NOT NULL,
    signed_at   TEXT NOT NULL -- of the newest release obeyed by then
) STRICT, WITHOUT ROWID;

-- For good: the orders of warrants that this host obeyed. A control plane can relay one again; it is obeyed no second time. Since version 6.
CREATE TABLE obeyed_orders (
    order_id    TEXT PRIMARY KEY,
    rollout_id  TEXT NOT NULL,
    obeyed_at   TEXT NOT NULL,
    is_recall   INTEGER NOT NULL DEFAULT 1, -- or it overrides the host's own lock; since version 7
    overrides_until TEXT -- until when it does, if it was not used; since version 7
) STRICT, WITHOUT ROWID;

-- The version of the program that wrote to this file last. Since version 7.
CREATE TABLE program (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    version  TEXT NOT NULL
) STRICT;
