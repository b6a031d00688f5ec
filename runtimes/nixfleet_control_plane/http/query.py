"""Query parameters: strict parsing, and their OpenAPI descriptions. Unknown parameters are ignored.

The position after a page is an opaque token: a response has it as `next`, and the client returns it as `after`.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

import orjson
from attrs import frozen
from starlette.requests import Request

from nixfleet_control_plane.http.answers import Refusal, refusal
from nixfleet_control_plane.http.server.limits import FEED_SECONDS_MAX, POLL_SECONDS_MAX
from nixfleet_proto.json_value import JsonValue
from nixfleet_runtime.http.listings import PAGE_LENGTH_MAX

NUMBER_LENGTH_MAX: Final = 18
PLACE_LENGTH_MAX: Final = 2048
Place = tuple[str, str]
"""The rollout and the host after which a page begins."""


@frozen
class Parameter:
    """A query parameter: its name, description and schema."""

    name: str
    description: str
    schema: Mapping[str, JsonValue]

    def text(self, request: Request) -> str | None:
        """Return the parameter's text, `None` if absent. Raises: Refusal, if it occurs more than once."""
        values = request.query_params.getlist(self.name)
        if len(values) > 1:
            raise self.refusal("one value", f"{len(values)}")
        return values[0] if values else None

    def refusal(self, expected: str, found: str) -> Refusal:
        """Return 422."""
        return refusal(
            "malformed-query",
            "The query is malformed",
            422,
            f"$.{self.name}: expected {expected}, found {found[:100]}",
        )


@frozen
class Number(Parameter):
    """A whole number; `default` when the parameter is absent."""

    default: int = 0
    at_least: int = 0

    def of(self, request: Request) -> int:
        """Return the number. Raises: Refusal."""
        text = self.text(request)
        return self.default if text is None else self.number(text)

    def number(self, text: str) -> int:
        """Return the number that `text` is. Raises: Refusal."""
        is_number = text.isascii() and text.isdecimal() and len(text) <= NUMBER_LENGTH_MAX
        if not is_number or int(text) < self.at_least:
            raise self.refusal(f"a whole number, at least {self.at_least}", repr(text))
        return int(text)


@frozen
class After(Parameter):
    """The position after which a page begins, in a list ordered by rollout and host."""

    def of(self, request: Request) -> Place | None:
        """Return the position; `None`: the beginning. Raises: Refusal."""
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
                raise self.refusal("the `next` of a page", repr(text))


def place_text(rollout_id: str, hostname: str) -> str:
    """Return the position as an opaque token, which `After` reads."""
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
    f"the number of seconds to wait for a dispatch; values above {POLL_SECONDS_MAX} count as {POLL_SECONDS_MAX}",
    0,
)
FEED_WAIT: Final = _number(
    "wait",
    f"the number of seconds to wait for a line; values above {FEED_SECONDS_MAX} count as {FEED_SECONDS_MAX}",
    0,
)
LIMIT: Final = _number(
    "limit",
    f"the maximum number of items; values above {PAGE_LENGTH_MAX} count as {PAGE_LENGTH_MAX}",
    PAGE_LENGTH_MAX,
    1,
)
AFTER_ROW: Final = _number(
    "after", "the log row after which the page begins: `next` of the previous page", 0
)
AFTER: Final = After("after", "`next` of the previous page", {"type": "string"})
