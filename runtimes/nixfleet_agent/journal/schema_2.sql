-- The newest release that the host obeyed, and the closures that it rolled back from.
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

-- Version 1 grew while it had its number: a journal of its first days has no `taken_over_seq`. In the inner query the
-- name is the column if there is one, and otherwise the 0 of the outer one.
CREATE TABLE rollouts_of_version_2 (
    rollout_id         TEXT PRIMARY KEY,
    record             TEXT NOT NULL,
    on_health_failure  TEXT NOT NULL,
    closed_at          TEXT,
    taken_over_seq     INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO rollouts_of_version_2
    SELECT rollout_id, record, on_health_failure, closed_at,
        (SELECT taken_over_seq FROM rollouts AS own WHERE own.rollout_id = each.rollout_id)
    FROM (SELECT rollout_id, record, on_health_failure, closed_at, 0 AS taken_over_seq FROM rollouts) AS each;
DROP TABLE rollouts;
ALTER TABLE rollouts_of_version_2 RENAME TO rollouts;
