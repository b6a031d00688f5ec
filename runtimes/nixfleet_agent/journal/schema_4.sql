-- The number of a row of events is not used twice.
CREATE TABLE events_of_version_4 (
    row_id           INTEGER PRIMARY KEY AUTOINCREMENT,
    rollout_id       TEXT NOT NULL,
    seq              INTEGER NOT NULL,
    fact             TEXT NOT NULL,
    emitted_at       TEXT NOT NULL,
    is_acknowledged  INTEGER NOT NULL DEFAULT 0,
    refused_reason   TEXT,
    UNIQUE (rollout_id, seq)
) STRICT;
INSERT INTO events_of_version_4 SELECT * FROM events;
DROP TABLE events;
ALTER TABLE events_of_version_4 RENAME TO events;
CREATE INDEX events_unsent ON events (row_id) WHERE is_acknowledged = 0 AND refused_reason IS NULL;
