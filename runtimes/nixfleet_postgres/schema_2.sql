-- The log is in partitions, so that its beginning can be exported and dropped, and is indexed by rollout. Texts are
-- compared byte by byte, as SQLite does, whatever the collation of the database is.
DO $$
DECLARE
    texts record;
BEGIN
    FOR texts IN
        SELECT c.table_name, string_agg(format('ALTER COLUMN %I TYPE text COLLATE "C"', c.column_name), ', ') AS changes
        FROM information_schema.columns AS c
        WHERE c.table_schema = current_schema() AND c.data_type = 'text'
        GROUP BY c.table_name
    LOOP
        EXECUTE format('ALTER TABLE %I %s', texts.table_name, texts.changes);
    END LOOP;
END $$;

-- program: the version of nixfleet that opened the shard last, to write.
ALTER TABLE shards ADD COLUMN program text COLLATE "C";

-- partition_rows: how many rows a new partition of the log takes.
ALTER TABLE database
    ADD COLUMN partition_rows bigint NOT NULL DEFAULT 1000000 CHECK (partition_rows > 0);

-- Where the log begins, if its first rows were exported and dropped, and the views as of the row before: a compressed
-- SQLite database, as in the table of that name there.
CREATE TABLE log_start (
    single     bigint PRIMARY KEY CHECK (single = 1),
    first_seq  bigint NOT NULL,
    prev_hash  bytea NOT NULL CHECK (length(prev_hash) = 32),
    views      bytea NOT NULL
);

-- The partitions: event_log_N has the rows from N = first_seq on, before end_seq.
CREATE TABLE log_partitions (
    first_seq  bigint PRIMARY KEY,
    end_seq    bigint NOT NULL UNIQUE CHECK (end_seq > first_seq)
);

ALTER TABLE event_log RENAME TO event_log_1;
ALTER TABLE event_log_1 RENAME CONSTRAINT event_log_pkey TO event_log_1_pkey;
CREATE TABLE event_log (
    seq             bigint PRIMARY KEY,
    ts              text COLLATE "C" NOT NULL,
    kind            text COLLATE "C" NOT NULL,
    host_id         text COLLATE "C",
    rollout_id      text COLLATE "C",
    payload         text COLLATE "C" NOT NULL,
    signature       text COLLATE "C", -- in hex
    first_fact_seq  bigint,
    fact_count      bigint,
    outcome         text COLLATE "C",
    prev_hash       bytea NOT NULL CONSTRAINT event_log_prev_hash_check CHECK (length(prev_hash) = 32),
    hash            bytea NOT NULL CONSTRAINT event_log_hash_check CHECK (length(hash) = 32)
) PARTITION BY RANGE (seq);
CREATE INDEX event_log_by_rollout ON event_log (rollout_id, seq);

-- Contents that no row refers to may be removed by who says so, and may: a guard against accidents. Rights are another.
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'contents' AND TG_OP = 'DELETE' AND current_setting('nixfleet.removing', true) = 'contents' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
-- Each partition gets a trigger of its own of these for rows; of those for statements, the one that `make_partitions` makes.
CREATE TRIGGER event_log_rows_are_append_only BEFORE UPDATE OR DELETE ON event_log
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER event_log_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event_log
    EXECUTE FUNCTION refuse_change();

-- Makes partitions, so that there is room for a thousand rows after `up_to`. The role that appends owns no table, so it
-- is the owner who makes them; it can make them, and do nothing else by this.
CREATE FUNCTION make_partitions(up_to bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    first bigint;
    count bigint;
BEGIN
    SELECT coalesce(max(end_seq), 1) INTO first FROM log_partitions;
    SELECT partition_rows INTO count FROM database;
    WHILE first <= up_to + 1000 LOOP
        -- Attached, and not made as a partition, which would wait for every reader of the log.
        EXECUTE format(
            'CREATE TABLE %I (LIKE event_log INCLUDING CONSTRAINTS) WITH (toast_tuple_target = 8160)',
            'event_log_' || first
        );
        EXECUTE format(
            'CREATE TRIGGER event_log_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I'
            ' EXECUTE FUNCTION refuse_change()',
            'event_log_' || first
        );
        EXECUTE format(
            'ALTER TABLE event_log ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
            'event_log_' || first, first, first + count
        );
        INSERT INTO log_partitions VALUES (first, first + count);
        first := first + count;
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION make_partitions FROM PUBLIC;

-- Lets a log without rows begin at another row than the first: a log that is copied here may begin so.
CREATE FUNCTION begin_empty_log_at(first_seq bigint, prev_hash bytea, views bytea) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM event_log) OR EXISTS (SELECT FROM log_start) THEN
        RAISE EXCEPTION 'the log has rows' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    INSERT INTO log_start VALUES (1, first_seq, prev_hash, views);
END $$;
REVOKE EXECUTE ON FUNCTION begin_empty_log_at FROM PUBLIC;

-- Returns the contents that the payload of an artefact refers to, as a JSON object by their hashes, as far as they are
-- there; nothing for a payload that was altered, which its reader finds.
CREATE FUNCTION contents_in(payload text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF json_typeof(payload::json -> 'body') = 'array' THEN
        RETURN (
            SELECT json_object_agg(hash, text)::text FROM contents WHERE hash IN (
                SELECT part ->> 'content' FROM json_array_elements(payload::json -> 'body') AS part
                WHERE json_typeof(part) = 'object'
            )
        );
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

-- Yields the hash of each content that a row after `after_seq` refers to.
CREATE FUNCTION referred_contents(after_seq bigint) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT part ->> 'content' FROM event_log, json_array_elements(
        CASE WHEN json_typeof(payload::json -> 'body') = 'array' THEN payload::json -> 'body' END
    ) AS part
    WHERE kind = 'artefact_accepted' AND seq > after_seq AND json_typeof(part) = 'object'
$$;

-- The rows of before are one partition, up to a multiple of the others' size.
DO $$
DECLARE
    last bigint;
    size bigint;
BEGIN
    SELECT coalesce(max(seq), 0) INTO last FROM event_log_1;
    SELECT coalesce(max(partition_rows), 1000000) INTO size FROM database;
    last := (last / size + 1) * size + 1;
    EXECUTE format('ALTER TABLE event_log ATTACH PARTITION event_log_1 FOR VALUES FROM (1) TO (%s)', last);
    INSERT INTO log_partitions VALUES (1, last);
END $$;
