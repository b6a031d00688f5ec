"""Identifiers that have a shape. A value of a type here is known to have it."""

import re
from typing import Self

from nixfleet_proto.checked import shown
from nixfleet_proto.errors import NixfleetError

_CHANNEL = re.compile(r"[a-z0-9_-]+")


class InvalidRolloutId(NixfleetError, ValueError):
    """The text is not `{channel}@{channel_ref}`; `text` and `problem` say what was wrong."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(text, problem)
        self.text = text
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.text!r} is not a rollout id: {self.problem}"


class RolloutId(str):
    """The name of one rollout, `{channel}@{channel_ref}`; a plain string to JSON, SQL and dicts.

    Channel: `[a-z0-9_-]+`. Channel ref: what the channel pointed at, not empty, without `@`.
    Raises: InvalidRolloutId.
    Source: docs/spec/system.md, Words.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidRolloutId(text, f"expected a string, found {shown(text)}")
        channel, at, channel_ref = text.partition("@")
        if not at:
            raise InvalidRolloutId(text, "expected '{channel}@{channel_ref}', found no '@'")
        if not is_channel_name(channel):
            raise InvalidRolloutId(text, f"channel {channel!r} does not match [a-z0-9_-]+")
        if not channel_ref or "@" in channel_ref:
            raise InvalidRolloutId(
                text, f"channel ref {channel_ref!r} must not be empty or contain '@'"
            )
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        return f"RolloutId({str.__repr__(self)})"

    @classmethod
    def of(cls, channel: str, channel_ref: str) -> Self:
        """Return the id of the rollout that moves `channel` to `channel_ref`.

        Raises: InvalidRolloutId, also when the channel itself contains an `@`.
        """
        for part in (channel, channel_ref):
            if not isinstance(part, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidRolloutId(part, f"expected a string, found {shown(part)}")
        if "@" in channel:
            raise InvalidRolloutId(
                f"{channel}@{channel_ref}", f"channel {channel!r} does not match [a-z0-9_-]+"
            )
        return cls(f"{channel}@{channel_ref}")

    @property
    def channel(self) -> str:
        """The part before the `@`."""
        return self.partition("@")[0]

    @property
    def channel_ref(self) -> str:
        """The part after the `@`."""
        return self.partition("@")[2]


def is_channel_name(text: str) -> bool:
    """Return whether `text` may name a channel: `[a-z0-9_-]+`."""
    return _CHANNEL.fullmatch(text) is not None
