"""Shortens what a host reported: a line break stands for the host and the rollout, which the row has as columns.

Each envelope of a batch names both: a quarter of the payload. What is signed is canonical JSON, which has no line
break, and in which one may stand between two tokens: so the shorter text is JSON too, and SQL reads its events.
Rejected: compressed payloads, which are smaller by far, and which SQL cannot read.
Source: docs/spec/log.md, Stored rows.
"""

from typing import Final

import orjson

_BREAK: Final = "\n"
"""A single character, because those are found twenty times as fast as two. At the beginning: the rest is as it was."""


def shortened(payload: str, host: str, rollout_id: str) -> str:
    """Return the payload as it is stored."""
    if _BREAK in payload:
        return _BREAK + payload
    # In two thirds of the time of `replace`.
    stored = _BREAK.join(payload.split(_members(host, rollout_id)))
    return _BREAK + payload if stored.startswith(_BREAK) else stored


def lengthened(stored: str, host: str, rollout_id: str) -> str:
    """Return the payload of which `shortened` made `stored`."""
    if stored.startswith(_BREAK):
        return stored[1:]
    return stored.replace(_BREAK, _members(host, rollout_id))


def _members(host: str, rollout_id: str) -> str:
    """Return how an envelope ends, but for its brace, in canonical JSON."""
    return f",{orjson.dumps({'hostname': host, 'rolloutId': rollout_id})[1:-1].decode()}"
