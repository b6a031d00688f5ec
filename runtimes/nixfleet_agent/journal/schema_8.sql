-- Journals of early version 7 get what it lacked: which orders override the host's own lock, and until when.

-- Version 7 grew while it had its number. In the inner queries a name is the column if there is one, and otherwise the
-- value of the outer query.
CREATE TABLE obeyed_orders_of_version_8 (
    order_id    TEXT PRIMARY KEY,
    rollout_id  TEXT NOT NULL,
    obeyed_at   TEXT NOT NULL,
    is_recall   INTEGER NOT NULL DEFAULT 1,
    overrides_until TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO obeyed_orders_of_version_8
    SELECT order_id, rollout_id, obeyed_at,
        (SELECT is_recall FROM obeyed_orders AS own WHERE own.order_id = each.order_id),
        (SELECT overrides_until FROM obeyed_orders AS own WHERE own.order_id = each.order_id)
    FROM (
        SELECT order_id, rollout_id, obeyed_at, 1 AS is_recall, NULL AS overrides_until
        FROM obeyed_orders
    ) AS each;
DROP TABLE obeyed_orders;
ALTER TABLE obeyed_orders_of_version_8 RENAME TO obeyed_orders;
