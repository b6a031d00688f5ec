"""Shortens what a host reported: a line break stands for the host and the rollout, which the row has as columns.

Each envelope of a batch names both: a quarter of the payload. What is signed is canonical JSON, which has no line
break, and in which one may stand between two tokens: so the shorter text is JSON too, and SQL reads its events.
Rejected: compressed payloads, which are smaller by far, and which SQL cannot read.
Source: docs/spec/log.md, Stored rows.
"""

from typing import Final

import orjson

_BREAK: Final = "\n"
_OF_PAYLOAD: Final = "\n\n"
"""A line break of the payload itself, which no canonical JSON has. Such a payload is not shortened."""


def shortened(payload: str, host: str, rollout_id: str) -> str:
    """Return the payload as it is stored."""
    if _BREAK in payload:
        return payload.replace(_BREAK, _OF_PAYLOAD)
    return payload.replace(_members(host, rollout_id), f"{_BREAK}}}")


def lengthened(stored: str, host: str, rollout_id: str) -> str:
    """Return the payload of which `shortened` made `stored`."""
    if _OF_PAYLOAD in stored:
        return stored.replace(_OF_PAYLOAD, _BREAK)
    return stored.replace(f"{_BREAK}}}", _members(host, rollout_id))


def _members(host: str, rollout_id: str) -> str:
    """Return how an envelope ends, in canonical JSON."""
    return f',"hostname":{_text(host)},"rolloutId":{_text(rollout_id)}}}'


def _text(value: str) -> str:
    return orjson.dumps(value).decode()
