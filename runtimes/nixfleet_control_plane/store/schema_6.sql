-- Long parts of artefacts are stored once, under their hash; rows that are there stay as they are.
CREATE TABLE contents (
    hash  TEXT PRIMARY KEY,
    text  TEXT NOT NULL
) STRICT;
CREATE TRIGGER contents_are_append_only_update BEFORE UPDATE ON contents
BEGIN SELECT RAISE(ABORT, 'contents are append-only'); END;
CREATE TRIGGER contents_are_append_only_delete BEFORE DELETE ON contents
BEGIN SELECT RAISE(ABORT, 'contents are append-only'); END;
