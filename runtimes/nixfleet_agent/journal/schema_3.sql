-- An act has the number of processes of the agent that began it.
ALTER TABLE intents ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
