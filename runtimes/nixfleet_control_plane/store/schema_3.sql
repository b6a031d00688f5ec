-- From version 2 to 3: dispatches that take a slot of a budget which comes back by the clock.
CREATE TABLE beginnings (
    budget         TEXT NOT NULL,
    began_at       TEXT NOT NULL,
    event_log_seq  INTEGER NOT NULL REFERENCES event_log (seq),
    PRIMARY KEY (budget, event_log_seq)
) STRICT, WITHOUT ROWID;
