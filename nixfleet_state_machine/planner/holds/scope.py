"""Where a hold applies. Data, and the text form that commands, log, store and people use.

The text form is the channel's name or the rollout id, or begins with a word and a colon. A channel's name contains
neither `@` nor `:`, and a rollout id has its `@` before any `:` of its ref, so no two can be confused.
Source: docs/spec/holds.md, Scopes.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias

from attrs import frozen

from nixfleet_proto.checked import at_least, at_most, checked
from nixfleet_proto.errors import ValueProblem
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.steering.approval import WAVE_MAX

_FLEET: Final = "fleet:all"
_HOST: Final = "host:"
_WAVE: Final = "wave:"
_GROUP: Final = "group:"
# Few enough to be read at once: what operators send is read here.
_WAVE_DIGITS_MAX: Final = len(str(WAVE_MAX))


@frozen
class FleetScope:
    """Every host."""

    def __str__(self) -> str:
        return _FLEET


@frozen
class ChannelScope:
    """Every rollout of a channel."""

    channel: str

    def __str__(self) -> str:
        return self.channel


@frozen
class RolloutScope:
    """One rollout."""

    rollout_id: RolloutId

    def __str__(self) -> str:
        return str(self.rollout_id)


@frozen
@checked
class WaveScope:
    """One wave of a rollout, up to the greatest number that a statement on a wave can have."""

    rollout_id: RolloutId
    wave: int

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("wave", self.wave, 0)
        yield from at_most("wave", self.wave, WAVE_MAX)

    def __str__(self) -> str:
        return f"{_WAVE}{self.wave}:{self.rollout_id}"


@frozen
class HostScope:
    """One host, in every rollout."""

    hostname: str

    def __str__(self) -> str:
        return f"{_HOST}{self.hostname}"


@frozen
class GroupScope:
    """The hosts of a channel that the same calendar entries select, in every rollout. Made by a calendar alone."""

    channel: str
    group: str

    def __str__(self) -> str:
        return f"{_GROUP}{self.channel}:{self.group}"


HoldScope: TypeAlias = FleetScope | ChannelScope | RolloutScope | WaveScope | HostScope | GroupScope
"""`str` of one is its text form; `parse_scope` reads it."""


def parse_scope(text: str) -> HoldScope:
    """Return the scope whose text form is `text`.

    Raises: InvalidRolloutId, where a rollout id is expected and none is found.
    """
    if text == _FLEET:
        return FleetScope()
    if text.startswith(_HOST):
        return HostScope(text.removeprefix(_HOST))
    if text.startswith(_GROUP):
        channel, _, group = text.removeprefix(_GROUP).partition(":")
        return GroupScope(channel, group)
    if text.startswith(_WAVE):
        number, _, rollout_id = text.removeprefix(_WAVE).partition(":")
        if not (number.isascii() and number.isdecimal() and len(number) <= _WAVE_DIGITS_MAX):
            raise InvalidRolloutId(text, "expected wave:NUMBER:ROLLOUT")
        return WaveScope(RolloutId(rollout_id), int(number))
    return RolloutScope(RolloutId(text)) if "@" in text else ChannelScope(text)
