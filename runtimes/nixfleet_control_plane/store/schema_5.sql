-- Databases of early version 4 get what it lacked: the columns of format 2 of the log, and where the log begins.
DROP VIEW IF EXISTS log_lines;

-- Version 4 grew while it had its number. In the inner queries a name is the column if there is one, and otherwise the
-- null of the outer query.
CREATE TABLE event_log_5 (
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
INSERT INTO event_log_5 (seq, ts, kind, host_id, rollout_id, payload, signature, first_fact_seq, fact_count, outcome, prev_hash, hash)
SELECT seq, ts, kind, host_id, rollout_id, payload, signature,
    (SELECT first_fact_seq FROM event_log AS own WHERE own.seq = each.seq),
    (SELECT fact_count FROM event_log AS own WHERE own.seq = each.seq),
    (SELECT outcome FROM event_log AS own WHERE own.seq = each.seq),
    prev_hash, hash
FROM (
    SELECT seq, ts, kind, host_id, rollout_id, payload, signature, NULL AS first_fact_seq, NULL AS fact_count, NULL AS outcome, prev_hash, hash
    FROM event_log
) AS each ORDER BY seq;
DROP TABLE event_log;
ALTER TABLE event_log_5 RENAME TO event_log;
CREATE INDEX event_log_by_rollout ON event_log (rollout_id);
CREATE TRIGGER event_log_is_append_only_update BEFORE UPDATE ON event_log
BEGIN SELECT RAISE(ABORT, 'event_log is append-only'); END;
CREATE TRIGGER event_log_is_append_only_delete BEFORE DELETE ON event_log
BEGIN SELECT RAISE(ABORT, 'event_log is append-only'); END;

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

CREATE TABLE IF NOT EXISTS log_start (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    first_seq  INTEGER NOT NULL,
    prev_hash  BLOB NOT NULL CHECK (length(prev_hash) = 32),
    views      BLOB NOT NULL
) STRICT;

DROP INDEX probe_failures_by_origin;
CREATE INDEX probe_failures_by_origin
    ON probe_failures (event_log_seq, probe_name, ifnull(control_id, ''), ifnull(framework, ''));
