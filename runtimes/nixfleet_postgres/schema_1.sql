-- The control plane's database in PostgreSQL. `event_log` is authoritative; rows of all other tables name the log row
-- they come from. The tables of the log, of the cache and of the views have the columns of the SQLite store, in its
-- order, so that a copy of one is the other (`copies`).
-- Source: docs/spec/runtimes.md, Store.

CREATE TABLE database (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    fleet   text NOT NULL
);

-- Who may append, and where the log ends. Each append compares and sets this row: it is the fence.
CREATE TABLE shards (
    shard        text PRIMARY KEY,
    epoch        bigint NOT NULL,
    holder       text NOT NULL, -- drawn by each process that opens the store
    url          text,
    lease_until  timestamptz NOT NULL,
    head_seq     bigint NOT NULL,
    head_hash    bytea NOT NULL CHECK (length(head_hash) = 32)
) WITH (fillfactor = 50); -- updated by each commit: in place, without a new page

CREATE TABLE event_log (
    seq             bigint PRIMARY KEY,
    ts              text NOT NULL,
    kind            text NOT NULL,
    host_id         text,
    rollout_id      text,
    payload         text NOT NULL,
    signature       text, -- in hex
    first_fact_seq  bigint,
    fact_count      bigint,
    outcome         text,
    prev_hash       bytea NOT NULL CHECK (length(prev_hash) = 32),
    hash            bytea NOT NULL CHECK (length(hash) = 32)
) WITH (toast_tuple_target = 8160); -- a batch stays in its row, not compressed: that took more time than all else

CREATE TABLE contents (
    hash  text PRIMARY KEY,
    text  text NOT NULL
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER event_log_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event_log
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER contents_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON contents
    EXECUTE FUNCTION refuse_change();

-- A write-behind cache of the reducer's records.
CREATE TABLE host_rollout_records (
    rollout_id      text NOT NULL,
    hostname        text NOT NULL,
    state           text NOT NULL,
    record          text NOT NULL,
    last_event_seq  text NOT NULL,
    event_log_seq   bigint NOT NULL,
    PRIMARY KEY (rollout_id, hostname)
);
CREATE TABLE host_records_through (
    single         bigint PRIMARY KEY CHECK (single = 1),
    event_log_seq  bigint NOT NULL
);

-- Derived views.
CREATE TABLE rollouts (
    rollout_id                     text PRIMARY KEY,
    channel                        text NOT NULL,
    target_ref                     text NOT NULL,
    state                          text NOT NULL,
    current_wave                   bigint NOT NULL,
    opened_event_log_seq           bigint NOT NULL,
    last_transition_event_log_seq  bigint NOT NULL,
    opened_at                      text NOT NULL,
    terminal_at                    text,
    superseded_at                  text,
    record                         text NOT NULL
);
CREATE TABLE probe_failures (
    event_log_seq   bigint NOT NULL,
    rollout_id      text NOT NULL,
    host_id         text NOT NULL,
    probe_name      text NOT NULL,
    control_id      text,
    framework       text,
    observed_at     text NOT NULL,
    cleared_by_seq  bigint
);
CREATE INDEX probe_failures_by_origin ON probe_failures (event_log_seq, probe_name);
CREATE TABLE quarantined_closures (
    channel                   text NOT NULL,
    closure_hash              text NOT NULL,
    quarantined_at            text NOT NULL,
    triggering_event_log_seq  bigint NOT NULL,
    cleared_by_seq            bigint,
    PRIMARY KEY (channel, closure_hash)
);
CREATE TABLE dispatch_queue (
    hostname        text NOT NULL,
    rollout_id      text NOT NULL,
    target_closure  text NOT NULL,
    soak_due_at     text NOT NULL,
    enqueued_at     text NOT NULL,
    event_log_seq   bigint NOT NULL,
    attempt         bigint,
    queued_at       text,
    PRIMARY KEY (hostname, rollout_id)
);
CREATE TABLE deferrals (
    hostname       text NOT NULL,
    rollout_id     text NOT NULL,
    gate           text NOT NULL,
    reason         text NOT NULL,
    since          text NOT NULL,
    event_log_seq  bigint NOT NULL,
    PRIMARY KEY (hostname, rollout_id)
);
CREATE TABLE beginnings (
    budget         text NOT NULL,
    began_at       text NOT NULL,
    event_log_seq  bigint NOT NULL,
    PRIMARY KEY (budget, event_log_seq)
);
CREATE TABLE holds (
    scope          text NOT NULL,
    source         text NOT NULL,
    reason         text NOT NULL,
    until          text,
    held_at        text NOT NULL,
    event_log_seq  bigint NOT NULL,
    PRIMARY KEY (scope, source)
);
CREATE TABLE warrants (
    order_id       text PRIMARY KEY,
    rollout_id     text NOT NULL,
    warrant        text NOT NULL,
    event_log_seq  bigint NOT NULL
);
CREATE TABLE artefacts (
    name           text PRIMARY KEY,
    rollout_id     text,
    event_log_seq  bigint NOT NULL
);
CREATE TABLE refused_events (
    rollout_id     text NOT NULL,
    hostname       text NOT NULL,
    seq            text NOT NULL,
    reason         text NOT NULL,
    event_log_seq  bigint NOT NULL,
    PRIMARY KEY (rollout_id, hostname, seq)
);
CREATE TABLE hosts (
    hostname       text PRIMARY KEY,
    public_key     text NOT NULL,
    enrolled_at    text NOT NULL,
    event_log_seq  bigint NOT NULL
);
CREATE TABLE token_replay (
    nonce          text PRIMARY KEY,
    hostname       text NOT NULL,
    public_key     text NOT NULL,
    expires_at     text NOT NULL,
    event_log_seq  bigint NOT NULL
);
CREATE TABLE revocations (
    hostname       text PRIMARY KEY,
    not_before     text NOT NULL,
    reason         text,
    event_log_seq  bigint NOT NULL
);

-- The one statement of a commit. Compares epoch and head_seq with the shard's row, and sets what follows: another
-- writer gets SQLSTATE NF001, and nothing is written. changes: runs of writes of one kind, in order, each an array of
-- the kind and of the columns' values; no run has a key twice.
CREATE FUNCTION append(
    of_shard text, of_epoch bigint, lease interval, old_seq bigint, new_seq bigint, new_hash bytea,
    seqs bigint[], times text[], kinds text[], host_ids text[], rollout_ids text[], payloads text[], signatures text[],
    first_fact_seqs bigint[], fact_counts bigint[], outcomes text[], prev_hashes bytea[], hashes bytea[],
    content_hashes text[], content_texts text[], changes jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    change jsonb;
    given jsonb;
BEGIN
    WITH fence AS (
        UPDATE shards SET head_seq = new_seq, head_hash = new_hash, lease_until = clock_timestamp() + lease
        WHERE shard = of_shard AND epoch = of_epoch AND head_seq = old_seq
        RETURNING 1
    ), added AS (
        INSERT INTO event_log
        SELECT entry.* FROM fence, unnest(
            seqs, times, kinds, host_ids, rollout_ids, payloads, signatures, first_fact_seqs, fact_counts, outcomes,
            prev_hashes, hashes
        ) AS entry
    )
    SELECT to_jsonb(count(*)) INTO given FROM fence;
    IF given = '0' THEN
        RAISE EXCEPTION 'the shard has another epoch, or its log another end' USING ERRCODE = 'NF001';
    END IF;
    IF content_hashes <> '{}' THEN
        INSERT INTO contents SELECT entry.* FROM unnest(content_hashes, content_texts) AS entry ON CONFLICT DO NOTHING;
    END IF;
    IF changes IS NULL THEN
        RETURN;
    END IF;
    FOR change IN SELECT jsonb_array_elements(changes) LOOP
        given := change -> 1;
        CASE change ->> 0
        WHEN 'PutHostRecord' THEN
            -- A cached record never goes back: a start would believe it, and not read the log rows after it.
            INSERT INTO host_rollout_records AS old
            SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3, v ->> 4, (v ->> 5)::bigint FROM jsonb_array_elements(given) AS v
            ON CONFLICT (rollout_id, hostname) DO UPDATE
            SET state = excluded.state, record = excluded.record, last_event_seq = excluded.last_event_seq,
                event_log_seq = excluded.event_log_seq
            WHERE excluded.event_log_seq >= old.event_log_seq;
        WHEN 'SetRecordsThrough' THEN
            INSERT INTO host_records_through VALUES (1, (given -> 0 ->> 0)::bigint)
            ON CONFLICT (single) DO UPDATE SET event_log_seq = excluded.event_log_seq;
        WHEN 'RemoveHostRecords' THEN
            DELETE FROM host_rollout_records AS r USING jsonb_array_elements(given) AS v
            WHERE r.rollout_id = v ->> 0 AND (v ->> 1 IS NULL OR r.hostname = v ->> 1);
        WHEN 'PutRollout' THEN
            INSERT INTO rollouts
            SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3, (v ->> 4)::bigint, (v ->> 5)::bigint, (v ->> 6)::bigint,
                v ->> 7, v ->> 8, v ->> 9, v ->> 10
            FROM jsonb_array_elements(given) AS v
            ON CONFLICT (rollout_id) DO UPDATE
            SET channel = excluded.channel, target_ref = excluded.target_ref, state = excluded.state,
                current_wave = excluded.current_wave, opened_event_log_seq = excluded.opened_event_log_seq,
                last_transition_event_log_seq = excluded.last_transition_event_log_seq,
                opened_at = excluded.opened_at, terminal_at = excluded.terminal_at,
                superseded_at = excluded.superseded_at, record = excluded.record;
        WHEN 'OpenProbeFailure' THEN
            INSERT INTO probe_failures
            SELECT (v ->> 0)::bigint, v ->> 1, v ->> 2, v ->> 3, v ->> 4, v ->> 5, v ->> 6
            FROM jsonb_array_elements(given) AS v;
        WHEN 'ClearProbeFailure' THEN
            UPDATE probe_failures AS r SET cleared_by_seq = (v ->> 0)::bigint FROM jsonb_array_elements(given) AS v
            WHERE r.event_log_seq = (v ->> 1)::bigint AND r.probe_name = v ->> 2
                AND r.control_id IS NOT DISTINCT FROM v ->> 3 AND r.framework IS NOT DISTINCT FROM v ->> 4
                AND r.cleared_by_seq IS NULL;
        WHEN 'PutQuarantine' THEN
            INSERT INTO quarantined_closures
            SELECT v ->> 0, v ->> 1, v ->> 2, (v ->> 3)::bigint FROM jsonb_array_elements(given) AS v
            ON CONFLICT (channel, closure_hash) DO UPDATE
            SET quarantined_at = excluded.quarantined_at,
                triggering_event_log_seq = excluded.triggering_event_log_seq, cleared_by_seq = NULL;
        WHEN 'RetireQuarantineRow' THEN
            UPDATE quarantined_closures AS r SET cleared_by_seq = (v ->> 0)::bigint
            FROM jsonb_array_elements(given) AS v WHERE r.channel = v ->> 1 AND r.closure_hash = v ->> 2;
        WHEN 'PutDispatch' THEN
            INSERT INTO dispatch_queue
            SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3, v ->> 4, (v ->> 5)::bigint, (v ->> 6)::bigint, v ->> 7
            FROM jsonb_array_elements(given) AS v
            ON CONFLICT (hostname, rollout_id) DO UPDATE
            SET target_closure = excluded.target_closure, soak_due_at = excluded.soak_due_at,
                enqueued_at = excluded.enqueued_at, event_log_seq = excluded.event_log_seq,
                attempt = excluded.attempt, queued_at = excluded.queued_at;
        WHEN 'RemoveDispatch' THEN
            DELETE FROM dispatch_queue AS r USING jsonb_array_elements(given) AS v
            WHERE r.hostname = v ->> 0 AND r.rollout_id = v ->> 1;
        WHEN 'PutDeferral' THEN
            INSERT INTO deferrals
            SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3, v ->> 4, (v ->> 5)::bigint FROM jsonb_array_elements(given) AS v
            ON CONFLICT (hostname, rollout_id) DO UPDATE
            SET gate = excluded.gate, reason = excluded.reason, since = excluded.since,
                event_log_seq = excluded.event_log_seq;
        WHEN 'RemoveDeferral' THEN
            DELETE FROM deferrals AS r USING jsonb_array_elements(given) AS v
            WHERE r.hostname = v ->> 0 AND r.rollout_id = v ->> 1;
        WHEN 'PutBeginning' THEN
            INSERT INTO beginnings
            SELECT v ->> 0, v ->> 1, (v ->> 2)::bigint FROM jsonb_array_elements(given) AS v;
        WHEN 'RemoveBeginnings' THEN
            -- Texts of times are of one length, and compared byte by byte.
            DELETE FROM beginnings AS r USING jsonb_array_elements(given) AS v
            WHERE r.budget = v ->> 0 AND r.began_at COLLATE "C" <= v ->> 1;
        WHEN 'RemoveBeginning' THEN
            -- Of those at one time any one is as good as another.
            DELETE FROM beginnings AS r USING jsonb_array_elements(given) AS v
            WHERE r.budget = v ->> 0 AND r.event_log_seq = (
                SELECT min(b.event_log_seq) FROM beginnings AS b WHERE b.budget = v ->> 0 AND b.began_at = v ->> 1
            );
        WHEN 'PutHold' THEN
            INSERT INTO holds
            SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3, v ->> 4, (v ->> 5)::bigint FROM jsonb_array_elements(given) AS v
            ON CONFLICT (scope, source) DO UPDATE
            SET reason = excluded.reason, until = excluded.until, held_at = excluded.held_at,
                event_log_seq = excluded.event_log_seq;
        WHEN 'RemoveHold' THEN
            DELETE FROM holds AS r USING jsonb_array_elements(given) AS v
            WHERE r.scope = v ->> 0 AND r.source = v ->> 1;
        WHEN 'PutWarrant' THEN
            INSERT INTO warrants
            SELECT v ->> 0, v ->> 1, v ->> 2, (v ->> 3)::bigint FROM jsonb_array_elements(given) AS v;
        WHEN 'RemoveWarrants' THEN
            DELETE FROM warrants AS r USING jsonb_array_elements(given) AS v WHERE r.rollout_id = v ->> 0;
        WHEN 'PutArtefact' THEN
            INSERT INTO artefacts
            SELECT v ->> 0, v ->> 1, (v ->> 2)::bigint FROM jsonb_array_elements(given) AS v
            ON CONFLICT (name) DO UPDATE
            SET rollout_id = excluded.rollout_id, event_log_seq = excluded.event_log_seq;
        WHEN 'RemoveArtefact' THEN
            DELETE FROM artefacts AS r USING jsonb_array_elements(given) AS v WHERE r.name = v ->> 0;
        WHEN 'PutRefusedEvent' THEN
            INSERT INTO refused_events
            SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3, (v ->> 4)::bigint FROM jsonb_array_elements(given) AS v
            ON CONFLICT (rollout_id, hostname, seq) DO UPDATE
            SET reason = excluded.reason, event_log_seq = excluded.event_log_seq;
        WHEN 'RemoveRefusedEvents' THEN
            DELETE FROM refused_events AS r USING jsonb_array_elements(given) AS v
            WHERE r.rollout_id = v ->> 0 AND (v ->> 1 IS NULL OR r.hostname = v ->> 1);
        WHEN 'PutEnrolledHost' THEN
            INSERT INTO hosts
            SELECT v ->> 0, v ->> 1, v ->> 2, (v ->> 3)::bigint FROM jsonb_array_elements(given) AS v
            ON CONFLICT (hostname) DO UPDATE
            SET public_key = excluded.public_key, enrolled_at = excluded.enrolled_at,
                event_log_seq = excluded.event_log_seq;
        WHEN 'PutUsedNonce' THEN
            INSERT INTO token_replay
            SELECT v ->> 0, v ->> 1, v ->> 2, v ->> 3, (v ->> 4)::bigint FROM jsonb_array_elements(given) AS v;
        WHEN 'RemoveUsedNonce' THEN
            DELETE FROM token_replay AS r USING jsonb_array_elements(given) AS v WHERE r.nonce = v ->> 0;
        WHEN 'PutRevocation' THEN
            INSERT INTO revocations
            SELECT v ->> 0, v ->> 1, v ->> 2, (v ->> 3)::bigint FROM jsonb_array_elements(given) AS v;
        WHEN 'RemoveRevocations' THEN
            DELETE FROM revocations;
        END CASE;
    END LOOP;
END $$;
