"""The engine's inputs, replies, actions and journal writes, as data. No decisions."""
