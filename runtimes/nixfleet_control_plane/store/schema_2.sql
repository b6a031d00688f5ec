-- A dispatch has its attempt and the time since when its acknowledgement is awaited; a rollout has standings in place
-- of excused hosts.
ALTER TABLE dispatch_queue ADD COLUMN attempt INTEGER;
ALTER TABLE dispatch_queue ADD COLUMN queued_at TEXT;
UPDATE dispatch_queue SET queued_at = (SELECT ts FROM event_log WHERE seq = event_log_seq);

-- Readers know both spellings, but a rollout that has ended is not written again: a rebuild would differ for ever.
UPDATE rollouts SET record = json_set(
    json_remove(record, '$.excused_hosts'),
    '$.standings',
    (
        SELECT json_group_object(value, 'excused')
        FROM (SELECT value FROM json_each(record, '$.excused_hosts') ORDER BY value)
    )
)
WHERE json_type(record, '$.excused_hosts') = 'array';

-- Version 1 grew while it had its number: what a database of its first days has otherwise, or not at all.
DROP INDEX IF EXISTS event_log_by_host;
DROP INDEX event_log_by_rollout;
CREATE INDEX event_log_by_rollout ON event_log (rollout_id);
DROP INDEX probe_failures_by_origin;
CREATE UNIQUE INDEX probe_failures_by_origin
    ON probe_failures (event_log_seq, probe_name, ifnull(control_id, ''), ifnull(framework, ''));
CREATE TRIGGER IF NOT EXISTS event_log_is_append_only_insert BEFORE INSERT ON event_log
WHEN NEW.seq IS NOT (SELECT ifnull(max(seq), 0) + 1 FROM event_log)
BEGIN SELECT RAISE(ABORT, 'event_log is append-only: expected the number after the last'); END;
CREATE TABLE IF NOT EXISTS refused_events (
    rollout_id     TEXT NOT NULL,
    hostname       TEXT NOT NULL,
    seq            TEXT NOT NULL,
    reason         TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq),
    PRIMARY KEY (rollout_id, hostname, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hosts (
    hostname       TEXT PRIMARY KEY,
    public_key     TEXT NOT NULL,
    enrolled_at    TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS token_replay (
    nonce          TEXT PRIMARY KEY,
    hostname       TEXT NOT NULL,
    public_key     TEXT NOT NULL,
    expires_at     TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revocations (
    hostname       TEXT PRIMARY KEY,
    not_before     TEXT NOT NULL,
    reason         TEXT,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq)
) STRICT, WITHOUT ROWID;
