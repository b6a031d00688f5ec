"""What lets others check a log without having it: its Merkle tree, and checkpoints of it. Data and pure functions.

Source: docs/spec/log-proofs.md.
"""
