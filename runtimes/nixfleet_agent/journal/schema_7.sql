-- The version of the program that wrote last is stored. Journals of early version 6 get the table of obeyed orders.
CREATE TABLE program (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    version  TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS obeyed_orders (
    order_id    TEXT PRIMARY KEY,
    rollout_id  TEXT NOT NULL,
    obeyed_at   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
