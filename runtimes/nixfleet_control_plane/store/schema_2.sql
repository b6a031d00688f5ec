-- From version 1 to 2: which attempt a dispatch is for, and since when its acknowledgement is awaited.
ALTER TABLE dispatch_queue ADD COLUMN attempt INTEGER;
ALTER TABLE dispatch_queue ADD COLUMN queued_at TEXT;
