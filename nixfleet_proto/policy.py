"""A channel's rollout policy, and the selectors that it names hosts by. Frozen data, no behaviour.

The part of a declaration that the reducers need, in a file of its own, so that taking a step does not create the
classes of a whole fleet. `nixfleet_proto.fleet` has these names as well.
Source: docs/spec/declarations.md, Resolved fleet.
"""

from collections.abc import Iterator

from attrs import field, frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.checked import at_least, checked
from nixfleet_proto.errors import ValueProblem
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue


@frozen
@checked
class Selector:
    """Which hosts are meant: those that satisfy every part that is given; none given, no host.

    `all` selects every host. `hosts` by name, `channel` by channel, `tags` those with all of the tags,
    `tags_any` those with at least one.
    """

    all: bool = False
    hosts: tuple[str, ...] = ()
    channel: str | None = None
    tags: tuple[str, ...] = ()
    tags_any: tuple[str, ...] = ()


@frozen
@checked
class PolicyWave:
    """A wave as a policy declares it: by selector, not by name."""

    selector: Selector
    soak_minutes: int = 0

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("soak_minutes", self.soak_minutes, 0)


@frozen
@checked
class RolloutPolicy:
    """The rollout policy of a channel; the host machine reads `on_health_failure`."""

    on_health_failure: OnHealthFailure = OnHealthFailure.HALT
    strategy: str = "waves"
    waves: tuple[PolicyWave, ...] = ()
    health_gate: FrozenMap[str, JsonValue] = field(factory=lambda: FrozenMap[str, JsonValue]())
