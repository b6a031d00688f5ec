-- From version 2 to 3: how many processes of the agent began an act.
ALTER TABLE intents ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
