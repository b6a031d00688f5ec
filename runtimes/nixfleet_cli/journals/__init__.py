"""An agent's journal, read by the commands of operators: how its host stands, and what it lived."""
