"""A place in a control plane's log, and a dispatch with its place: the values of `desired-state`. Pure.

A value is a projection of the dispatch queue. A position tells a later one from an earlier one, also of another
control plane that has taken over: its epoch is higher.
Source: docs/spec/nats.md, Dispatches.
"""

import json
import re
from typing import Final, Self

from attrs import frozen

from nixfleet_proto.codec import DecodeError, decode_dispatch, encode_dispatch
from nixfleet_proto.wire import Dispatch

VALUE_BYTES_MAX: Final = 16 * 1024
_POSITION: Final = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")


@frozen(order=True)
class Position:
    """A place in the log. epoch: of the store's owner; 0 if the store has none."""

    epoch: int
    event_log_seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.event_log_seq}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return the position in a text; `None` if it is none."""
        found = _POSITION.fullmatch(text)
        return None if found is None else cls(int(found[1]), int(found[2]))


NOWHERE: Final = Position(0, 0)


@frozen
class Desired:
    """A dispatch that waits for its host, and the row of the log that queued it."""

    position: Position
    dispatch: Dispatch


def encode_desired(desired: Desired) -> bytes:
    """Return the value of the host's key."""
    at = desired.position
    beginning = f'{{"epoch":{at.epoch},"eventLogSeq":{at.event_log_seq},"dispatch":'
    return beginning.encode() + encode_dispatch(desired.dispatch) + b"}"


def decode_desired(value: bytes) -> Desired | None:
    """Return what a value says; `None` if it says nothing, as after a deletion, or cannot be read."""
    if not value or len(value) > VALUE_BYTES_MAX:
        return None
    try:
        found = json.loads(value)
        at = Position.read(f"{found['epoch']}.{found['eventLogSeq']}")
        dispatch = decode_dispatch(json.dumps(found["dispatch"]).encode())
    except (ValueError, KeyError, TypeError, RecursionError, DecodeError):
        return None
    return None if at is None else Desired(at, dispatch)
