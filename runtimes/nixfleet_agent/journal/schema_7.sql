-- The version of the program that wrote last is stored. Journals of early version 6 get the table of obeyed orders, and
-- all of them its columns for orders that override the host's own lock: those of before were recalls.
CREATE TABLE program (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    version  TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS obeyed_orders (
    order_id    TEXT PRIMARY KEY,
    rollout_id  TEXT NOT NULL,
    obeyed_at   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE obeyed_orders ADD COLUMN is_recall INTEGER NOT NULL DEFAULT 1;
ALTER TABLE obeyed_orders ADD COLUMN overrides_until TEXT;
