-- A rollout has the time of the control plane's last answer before its switch, not known of older ones; and the orders
-- that the host obeyed.
ALTER TABLE rollouts ADD COLUMN home_at TEXT;

-- For good: the orders of warrants that this host obeyed. A control plane can relay one again; it is obeyed no second time.
CREATE TABLE obeyed_orders (
    order_id    TEXT PRIMARY KEY,
    rollout_id  TEXT NOT NULL,
    obeyed_at   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
