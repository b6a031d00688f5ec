-- The log is of format 2. The version of the program that wrote last is stored. Tables that databases of early version 3
-- lacked are made.
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

-- Format 2 of the log. Rows of format 1 stay as they are, with their hashes, and are read as before.
-- The table is made anew, because its kinds are checked.
CREATE TABLE event_log_4 (
    seq             INTEGER PRIMARY KEY,
    ts              TEXT NOT NULL,
    kind            TEXT NOT NULL CHECK (kind = 'agent_events' OR kind IN ( -- nearly all are
        'fact_refused', 'rollout_event', 'plan_action', 'gate_decision', 'operator_command',
        'artefact_accepted', 'artefact_refused', 'host_enrolled', 'identity_forked',
        'agent_event', 'verify_outcome')), -- of format 1 of the log, which had a row for each fact
    host_id         TEXT,
    rollout_id      TEXT,
    payload         TEXT NOT NULL CHECK (json_valid(payload)),
    signature       TEXT,
    first_fact_seq  INTEGER, -- of the facts that the row decides; others of its payload were known, or not reached
    fact_count      INTEGER,
    outcome         TEXT CHECK (outcome IS NULL OR json_valid(outcome)),
    prev_hash       BLOB NOT NULL CHECK (length(prev_hash) = 32),
    hash            BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO event_log_4 (
    seq, ts, kind, host_id, rollout_id, payload, signature, prev_hash, hash
) SELECT seq, ts, kind, host_id, rollout_id, payload, signature, prev_hash, hash
FROM event_log ORDER BY seq;
DROP TABLE event_log;
ALTER TABLE event_log_4 RENAME TO event_log;
CREATE INDEX event_log_by_rollout ON event_log (rollout_id);
-- Not unique any more: a probe that fails, passes and fails again may have done so in one row of the log.
DROP INDEX probe_failures_by_origin;
CREATE INDEX probe_failures_by_origin
    ON probe_failures (event_log_seq, probe_name, ifnull(control_id, ''), ifnull(framework, ''));
CREATE TRIGGER event_log_is_append_only_update BEFORE UPDATE ON event_log
BEGIN SELECT RAISE(ABORT, 'event_log is append-only'); END;
CREATE TRIGGER event_log_is_append_only_delete BEFORE DELETE ON event_log
BEGIN SELECT RAISE(ABORT, 'event_log is append-only'); END;

-- One line for each fact, and for each other row, for people and tools. kind: of a fact `agent_event` or
-- `fact_refused`. payload: of the fact alone.
CREATE VIEW log_lines AS
SELECT
    seq AS event_log_seq,
    ts,
    CASE
        WHEN json_extract(outcome, '$.refused."' || fact_seq || '"') IS NULL THEN 'agent_event'
        ELSE 'fact_refused'
    END AS kind,
    host_id,
    rollout_id,
    fact_seq,
    fact AS payload,
    json_extract(outcome, '$.refused."' || fact_seq || '"') AS reason
FROM (
    SELECT
        event_log.*,
        json_extract(each.value, '$.event.seq') AS fact_seq,
        json_extract(each.value, '$.event') AS fact
    FROM event_log, json_each(
        CASE WHEN json_type(payload, '$.events') IS NULL THEN json_array(json(payload))
        ELSE json_extract(payload, '$.events') END
    ) AS each
    WHERE first_fact_seq IS NOT NULL
)
WHERE fact_seq BETWEEN first_fact_seq AND first_fact_seq + fact_count - 1
UNION ALL
SELECT
    seq,
    ts,
    kind,
    host_id,
    rollout_id,
    CASE WHEN kind = 'agent_event' THEN json_extract(payload, '$.seq') END,
    payload,
    NULL
FROM event_log
WHERE first_fact_seq IS NULL;
