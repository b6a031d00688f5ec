"""The independent model: the required state, derived from the log, CI's releases and the specification.

Nothing here calls a reducer, the planner, an engine or a codec: the judge must not share the mistakes of what it
judges. It reads the durable bytes and the answers that were sent, and raises when they break a promise.
"""
