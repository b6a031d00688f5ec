"""What goes in and out of the engine, as data: inputs, log entries and their codec, view writes, key rings. No
decisions.
"""
