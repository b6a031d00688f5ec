-- From version 5 to 6: when the control plane last answered before a switch. It is not known of older rollouts.
ALTER TABLE rollouts ADD COLUMN home_at TEXT;
