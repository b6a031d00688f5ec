-- From version 5 to 6: when the control plane last answered before a switch. It is not known of older rollouts.
ALTER TABLE rollouts ADD COLUMN home_at TEXT;

-- For good: the orders of warrants that this host obeyed. A control plane can relay one again; it is obeyed no second time.
CREATE TABLE obeyed_orders (
    order_id    TEXT PRIMARY KEY,
    rollout_id  TEXT NOT NULL,
    obeyed_at   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
