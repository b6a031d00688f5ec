"""What may stand in a query: read strictly, and described by who reads it. What is not known is left alone.

A place in a list is handed out with a page and is nobody's to take apart; it comes back as `after`.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

import orjson
from attrs import frozen
from starlette.requests import Request

from nixfleet_control_plane.http.answers import Refusal, refusal
from nixfleet_control_plane.http.server.limits import POLL_SECONDS_MAX
from nixfleet_proto.json_value import JsonValue
from nixfleet_runtime.http.listings import PAGE_LENGTH_MAX

NUMBER_LENGTH_MAX: Final = 18
PLACE_LENGTH_MAX: Final = 2048
Place = tuple[str, str]
"""The rollout and the host after which a page begins."""


@frozen
class Parameter:
    """A parameter of a query: its name, what it is for, and its schema."""

    name: str
    description: str
    schema: Mapping[str, JsonValue]

    def text(self, request: Request) -> str | None:
        """Return what the query says, `None` if nothing. Raises: Refusal, for a parameter that is there twice."""
        values = request.query_params.getlist(self.name)
        if len(values) > 1:
            raise self.refusal("one value", f"{len(values)}")
        return values[0] if values else None

    def refusal(self, expected: str, found: str) -> Refusal:
        """Return 422."""
        return refusal(
            "malformed-query",
            "The query cannot be read",
            422,
            f"$.{self.name}: expected {expected}, found {found[:100]}",
        )


@frozen
class Number(Parameter):
    """A whole number; `default` when the query says nothing."""

    default: int = 0
    at_least: int = 0

    def of(self, request: Request) -> int:
        """Return the number. Raises: Refusal."""
        text = self.text(request)
        if text is None:
            return self.default
        is_number = text.isascii() and text.isdecimal() and len(text) <= NUMBER_LENGTH_MAX
        if not is_number or int(text) < self.at_least:
            raise self.refusal(f"a whole number from {self.at_least} on", repr(text))
        return int(text)


@frozen
class After(Parameter):
    """Where a page begins in a list by rollout and host."""

    def of(self, request: Request) -> Place | None:
        """Return the place; `None`: from the beginning. Raises: Refusal."""
        text = self.text(request)
        if text is None:
            return None
        try:
            place = orjson.loads(base64.urlsafe_b64decode(text[:PLACE_LENGTH_MAX]))
        except (binascii.Error, ValueError):
            place = None
        match place:
            case [str(rollout_id), str(hostname)]:
                return rollout_id, hostname
            case _:
                raise self.refusal("what a page had as next", repr(text))


def place_text(rollout_id: str, hostname: str) -> str:
    """Return a place as `After` reads it."""
    return base64.urlsafe_b64encode(orjson.dumps([rollout_id, hostname])).decode()


def _number(name: str, description: str, default: int, at_least: int = 0) -> Number:
    schema: dict[str, JsonValue] = {
        "type": "integer",
        "minimum": at_least,
        "maximum": 10**NUMBER_LENGTH_MAX - 1,
        "default": default,
    }
    return Number(name, description, schema, default, at_least)


WAIT: Final = _number(
    "wait",
    f"how many seconds to wait for a dispatch; more than {POLL_SECONDS_MAX} are {POLL_SECONDS_MAX}",
    0,
)
LIMIT: Final = _number(
    "limit",
    f"how many to list at most; more than {PAGE_LENGTH_MAX} are {PAGE_LENGTH_MAX}",
    PAGE_LENGTH_MAX,
    1,
)
AFTER_ROW: Final = _number(
    "after", "the row of the log after which to begin: `next` of the page before", 0
)
AFTER: Final = After("after", "`next` of the page before", {"type": "string"})
