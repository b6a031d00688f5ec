-- The version of the program that wrote last is stored. Tables that databases of early version 3 lacked are made.
CREATE TABLE program (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    version  TEXT NOT NULL
) STRICT;

-- Version 3 grew while it had its number: a database may have its first table alone, or all but the last.
CREATE TABLE IF NOT EXISTS operator_holds (
    scope          TEXT PRIMARY KEY,
    operator       TEXT NOT NULL,
    reason         TEXT NOT NULL,
    held_at        TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holds (
    scope          TEXT NOT NULL,
    source         TEXT NOT NULL, -- `operator:ada`, `freeze:holidays`, `contradiction`
    reason         TEXT NOT NULL,
    until          TEXT, -- null: until it is lifted
    held_at        TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq),
    PRIMARY KEY (scope, source)
) STRICT, WITHOUT ROWID;
INSERT INTO holds SELECT
    scope,
    CASE operator WHEN '(the control plane)' THEN 'contradiction' ELSE 'operator:' || operator END,
    reason,
    NULL,
    held_at,
    event_log_seq
FROM operator_holds;
DROP TABLE operator_holds;
CREATE TABLE IF NOT EXISTS warrants (
    order_id       TEXT PRIMARY KEY,
    rollout_id     TEXT NOT NULL,
    warrant        TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq)
) STRICT, WITHOUT ROWID;

-- Where the log begins, if rows before that were exported and dropped: the hash of the last of them, and the views as of
-- it, a compressed database of this format.
CREATE TABLE log_start (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    first_seq  INTEGER NOT NULL,
    prev_hash  BLOB NOT NULL CHECK (length(prev_hash) = 32),
    views      BLOB NOT NULL
) STRICT;
