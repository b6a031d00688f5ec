"""The independent model: what must be so, worked out from the log's text, CI's releases and the designs' words.

Nothing here calls a reducer, the planner, an engine or a codec: what judges must not share the mistakes of what it
judges. It reads the bytes that became durable and the answers that went out, and says at once which promise
they break.
"""
