-- A rollout has the whole policy of its manifest. Of older rollouts only the part about failures is known; the next
-- attempt or release brings the rest.
CREATE TABLE rollouts_of_version_5 (
    rollout_id      TEXT PRIMARY KEY,
    record          TEXT NOT NULL,
    policy          TEXT NOT NULL,
    closed_at       TEXT,
    taken_over_seq  INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO rollouts_of_version_5
    SELECT rollout_id, record, json_object('on_health_failure', on_health_failure), closed_at, taken_over_seq
    FROM rollouts;
DROP TABLE rollouts;
ALTER TABLE rollouts_of_version_5 RENAME TO rollouts;
