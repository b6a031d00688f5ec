"""Several shards in one control plane: their logs, what they tell each other, and one service over all of them.

Source: docs/spec/shards.md, Hosting.
"""
