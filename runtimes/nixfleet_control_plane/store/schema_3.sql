-- Dispatches that take a slot of a budget by the minute, holds by scope and source in place of pauses, and warrants
-- that are relayed.

-- Dispatches that take a slot of a budget which comes back by the clock.
CREATE TABLE beginnings (
    budget         TEXT NOT NULL,
    began_at       TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq),
    PRIMARY KEY (budget, event_log_seq)
) STRICT, WITHOUT ROWID;

-- Several holds of one scope, each by its source and with its end.
CREATE TABLE holds (
    scope          TEXT NOT NULL,
    source         TEXT NOT NULL, -- `operator:ada`, `freeze:holidays`, `contradiction`
    reason         TEXT NOT NULL,
    until          TEXT, -- null: until it is lifted
    held_at        TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq),
    PRIMARY KEY (scope, source)
) STRICT, WITHOUT ROWID;

-- "(the control plane)" held hosts that contradicted themselves; no operator has such a name.
INSERT INTO holds SELECT
    scope,
    CASE operator WHEN '(the control plane)' THEN 'contradiction' ELSE 'operator:' || operator END,
    reason,
    NULL,
    held_at,
    event_log_seq
FROM operator_holds;
DROP TABLE operator_holds;

-- Operators' warrants that are relayed, as they were signed.
CREATE TABLE warrants (
    order_id       TEXT PRIMARY KEY,
    rollout_id     TEXT NOT NULL,
    warrant        TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq)
) STRICT, WITHOUT ROWID;
