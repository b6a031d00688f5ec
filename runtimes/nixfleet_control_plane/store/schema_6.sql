-- Long parts of artefacts are stored once, under their hash, and signatures as bytes; rows that are there keep both.
-- Cached records of hosts take half of the space.
CREATE TABLE contents (
    hash  TEXT PRIMARY KEY,
    text  TEXT NOT NULL
) STRICT;
CREATE TRIGGER contents_are_append_only_update BEFORE UPDATE ON contents
BEGIN SELECT RAISE(ABORT, 'contents are append-only'); END;
CREATE TRIGGER contents_are_append_only_delete BEFORE DELETE ON contents
BEGIN SELECT RAISE(ABORT, 'contents are append-only'); END;

DROP VIEW log_lines;
CREATE TABLE event_log_6 (
    seq             INTEGER PRIMARY KEY,
    ts              TEXT NOT NULL,
    kind            TEXT NOT NULL CHECK (kind = 'agent_events' OR kind IN ( -- nearly all are
        'fact_refused', 'rollout_event', 'plan_action', 'gate_decision', 'operator_command',
        'artefact_accepted', 'artefact_refused', 'host_enrolled', 'identity_forked',
        'agent_event', 'verify_outcome')), -- of format 1 of the log, which had a row for each fact
    host_id         TEXT,
    rollout_id      TEXT,
    payload         TEXT NOT NULL CHECK (json_valid(payload)),
    signature       ANY, -- its bytes; in rows of before version 6, text in hex
    first_fact_seq  INTEGER, -- of the facts that the row decides; others of its payload were known, or not reached
    fact_count      INTEGER,
    outcome         TEXT CHECK (outcome IS NULL OR json_valid(outcome)),
    prev_hash       BLOB NOT NULL CHECK (length(prev_hash) = 32),
    hash            BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO event_log_6 (seq, ts, kind, host_id, rollout_id, payload, signature, first_fact_seq, fact_count, outcome, prev_hash, hash)
SELECT seq, ts, kind, host_id, rollout_id, payload, signature, first_fact_seq, fact_count, outcome, prev_hash, hash
FROM event_log ORDER BY seq;
DROP TABLE event_log;
ALTER TABLE event_log_6 RENAME TO event_log;
CREATE INDEX event_log_by_rollout ON event_log (rollout_id);
CREATE TRIGGER event_log_is_append_only_update BEFORE UPDATE ON event_log
BEGIN SELECT RAISE(ABORT, 'event_log is append-only'); END;
CREATE TRIGGER event_log_is_append_only_delete BEFORE DELETE ON event_log
BEGIN SELECT RAISE(ABORT, 'event_log is append-only'); END;

CREATE TABLE host_rollout_records_6 (
    rollout_id      TEXT NOT NULL,
    hostname        TEXT NOT NULL,
    state           TEXT NOT NULL,
    record          TEXT NOT NULL,
    last_event_seq  TEXT NOT NULL, -- text: an agent's seq may be any unsigned 64-bit number
    event_log_seq   INTEGER NOT NULL REFERENCES event_log (seq),
    PRIMARY KEY (rollout_id, hostname)
) STRICT;
INSERT INTO host_rollout_records_6 (rollout_id, hostname, state, record, last_event_seq, event_log_seq)
SELECT rollout_id, hostname, state, record, last_event_seq, event_log_seq FROM host_rollout_records;
DROP TABLE host_rollout_records;
ALTER TABLE host_rollout_records_6 RENAME TO host_rollout_records;

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
