"""The engine's inputs and outputs, as data: inputs, log entries and their codec, view writes, key rings. No
decisions.
"""
