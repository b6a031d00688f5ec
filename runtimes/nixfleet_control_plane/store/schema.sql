-- The control plane's database. `event_log` is authoritative; rows of all other tables name the log row they come from.
-- Source: docs/spec/runtimes.md, Store.

CREATE TABLE event_log (
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
-- Rows of one rollout are in order of `seq`. There is no index by host: every event would write to a different page of
-- it, at a cost that grows with hosts and rows; a query for one host reads its rollout.
CREATE INDEX event_log_by_rollout ON event_log (rollout_id);

CREATE TRIGGER event_log_is_append_only_update BEFORE UPDATE ON event_log
BEGIN SELECT RAISE(ABORT, 'event_log is append-only'); END;
CREATE TRIGGER event_log_is_append_only_delete BEFORE DELETE ON event_log
BEGIN SELECT RAISE(ABORT, 'event_log is append-only'); END;

-- Long parts of artefacts, by their SHA-256 in hex. `payload` refers to them, so that an artefact which is signed again
-- is not stored again; the hash of a row is over the payload with its contents.
CREATE TABLE contents (
    hash  TEXT PRIMARY KEY,
    text  TEXT NOT NULL
) STRICT;
CREATE TRIGGER contents_are_append_only_update BEFORE UPDATE ON contents
BEGIN SELECT RAISE(ABORT, 'contents are append-only'); END;
CREATE TRIGGER contents_are_append_only_delete BEFORE DELETE ON contents
BEGIN SELECT RAISE(ABORT, 'contents are append-only'); END;

-- A write-behind cache of the reducer's records. `host_records_through` is the log row up to which it is complete.
-- Not WITHOUT ROWID: a record is longer than a quarter of a page, so that each would have a page of its own.
CREATE TABLE host_rollout_records (
    rollout_id      TEXT NOT NULL,
    hostname        TEXT NOT NULL,
    state           TEXT NOT NULL,
    record          TEXT NOT NULL,
    last_event_seq  TEXT NOT NULL, -- text: an agent's seq may be any unsigned 64-bit number
    event_log_seq   INTEGER NOT NULL REFERENCES event_log (seq),
    PRIMARY KEY (rollout_id, hostname)
) STRICT;
CREATE TABLE host_records_through (
    only           INTEGER PRIMARY KEY CHECK (only = 1),
    event_log_seq  INTEGER NOT NULL
) STRICT;
INSERT INTO host_records_through VALUES (1, 0);

-- Derived views.
CREATE TABLE rollouts (
    rollout_id                     TEXT PRIMARY KEY,
    channel                        TEXT NOT NULL,
    target_ref                     TEXT NOT NULL,
    state                          TEXT NOT NULL,
    current_wave                   INTEGER NOT NULL,
    opened_event_log_seq           INTEGER NOT NULL REFERENCES event_log (seq),
    last_transition_event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq),
    opened_at                      TEXT NOT NULL,
    terminal_at                    TEXT,
    superseded_at                  TEXT,
    record                         TEXT NOT NULL -- the same and what has no column: retention, standings, attempts
) STRICT, WITHOUT ROWID;

CREATE TABLE probe_failures (
    event_log_seq   INTEGER NOT NULL REFERENCES event_log (seq),
    rollout_id      TEXT NOT NULL,
    host_id         TEXT NOT NULL,
    probe_name      TEXT NOT NULL,
    control_id      TEXT,
    framework       TEXT,
    observed_at     TEXT NOT NULL,
    cleared_by_seq  INTEGER REFERENCES event_log (seq)
) STRICT;
-- Not unique: a probe that fails, passes and fails again may have done so in one row of the log.
CREATE INDEX probe_failures_by_origin
    ON probe_failures (event_log_seq, probe_name, ifnull(control_id, ''), ifnull(framework, ''));
CREATE INDEX probe_failures_outstanding
    ON probe_failures (rollout_id, host_id) WHERE cleared_by_seq IS NULL;

CREATE TABLE quarantined_closures (
    channel                   TEXT NOT NULL,
    closure_hash              TEXT NOT NULL,
    quarantined_at            TEXT NOT NULL,
    triggering_event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq),
    cleared_by_seq            INTEGER REFERENCES event_log (seq),
    PRIMARY KEY (channel, closure_hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE dispatch_queue (
    hostname        TEXT NOT NULL,
    rollout_id      TEXT NOT NULL,
    target_closure  TEXT NOT NULL,
    soak_due_at     TEXT NOT NULL,
    enqueued_at     TEXT NOT NULL,
    event_log_seq   INTEGER NOT NULL REFERENCES event_log (seq),
    attempt         INTEGER,
    queued_at       TEXT,
    PRIMARY KEY (hostname, rollout_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE deferrals (
    hostname       TEXT NOT NULL,
    rollout_id     TEXT NOT NULL,
    gate           TEXT NOT NULL,
    reason         TEXT NOT NULL,
    since          TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq),
    PRIMARY KEY (hostname, rollout_id)
) STRICT, WITHOUT ROWID;

-- Dispatches under budgets with `max_per_minute`, as long as they take a slot of it.
CREATE TABLE beginnings (
    budget         TEXT NOT NULL,
    began_at       TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq),
    PRIMARY KEY (budget, event_log_seq)
) STRICT, WITHOUT ROWID;

-- Those that follow from artefacts in force have no row.
CREATE TABLE holds (
    scope          TEXT NOT NULL,
    source         TEXT NOT NULL, -- `operator:ada`, `freeze:holidays`, `contradiction`
    reason         TEXT NOT NULL,
    until          TEXT, -- null: until it is lifted
    held_at        TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq),
    PRIMARY KEY (scope, source)
) STRICT, WITHOUT ROWID;

-- Operators' warrants that are relayed, as they were signed.
CREATE TABLE warrants (
    order_id       TEXT PRIMARY KEY,
    rollout_id     TEXT NOT NULL,
    warrant        TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq)
) STRICT, WITHOUT ROWID;

-- The log row of the artefact in force under each name.
CREATE TABLE artefacts (
    name           TEXT PRIMARY KEY,
    rollout_id     TEXT,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq)
) STRICT, WITHOUT ROWID;

-- Facts that did not apply to a host's record, which nevertheless advanced past their numbers.
CREATE TABLE refused_events (
    rollout_id     TEXT NOT NULL,
    hostname       TEXT NOT NULL,
    seq            TEXT NOT NULL, -- text: as `last_event_seq`
    reason         TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq),
    PRIMARY KEY (rollout_id, hostname, seq)
) STRICT, WITHOUT ROWID;

-- Identities. A used nonce is removed by the first enrollment after its `expires_at`.
CREATE TABLE hosts (
    hostname       TEXT PRIMARY KEY,
    public_key     TEXT NOT NULL,
    enrolled_at    TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE token_replay (
    nonce          TEXT PRIMARY KEY,
    hostname       TEXT NOT NULL,
    public_key     TEXT NOT NULL,
    expires_at     TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE revocations (
    hostname       TEXT PRIMARY KEY,
    not_before     TEXT NOT NULL,
    reason         TEXT,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq)
) STRICT, WITHOUT ROWID;

-- The version of the program that wrote to this file last, once it found the views as it would derive them itself.
CREATE TABLE program (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    version  TEXT NOT NULL
) STRICT;

-- Where the log begins, if rows before that were exported and dropped: the hash of the last of them, and the views as of
-- it, a compressed database of this format.
CREATE TABLE log_start (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    first_seq  INTEGER NOT NULL,
    prev_hash  BLOB NOT NULL CHECK (length(prev_hash) = 32),
    views      BLOB NOT NULL
) STRICT;

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
