-- From version 1 to 2: which attempt a dispatch is for, and since when its acknowledgement is awaited; standings in
-- place of excused hosts.
ALTER TABLE dispatch_queue ADD COLUMN attempt INTEGER;
ALTER TABLE dispatch_queue ADD COLUMN queued_at TEXT;

-- Readers know both spellings, but a rollout that has ended is not written again: a rebuild would differ for ever.
UPDATE rollouts SET record = json_set(
    json_remove(record, '$.excused_hosts'),
    '$.standings',
    (
        SELECT json_group_object(value, 'excused')
        FROM (SELECT value FROM json_each(record, '$.excused_hosts') ORDER BY value)
    )
)
WHERE json_type(record, '$.excused_hosts') = 'array';
