"""The agent's workers: each waits for one thing in the world and posts what came of it. No decisions."""
