"""What a command would do, asked before it is given. Frozen data, and its JSON form.

Source: docs/spec/forecast.md, Previews.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from attrs import frozen

from nixfleet_proto.checked import at_least, at_most, checked
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.errors import ValueProblem
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.steering.approval import WAVE_MAX, Decision
from nixfleet_proto.steering.warrant import HOSTS_MAX, LIFETIME_MAX, ClosureRule
from nixfleet_runtime.http.forecasts import Span
from nixfleet_runtime.http.request_limits import RequestCoder
from nixfleet_state_machine.rollout.state import RolloutState


@frozen
class PreviewBody:
    """The command that is meant: the path and the body that it is sent with.

    Of a statement on a wave the body is what is stated, `{"wave": …, "decision": …}`, and of an order to hosts what is
    ordered, `{"rule": …, "expiresMinutes": …, "hosts": …}`: neither is signed yet.
    """

    path: str
    body: FrozenMap[str, JsonValue]


@frozen
@checked
class StatementBody:
    """A statement on a wave, before it is signed; the wave is within the bounds of one that is."""

    wave: int
    decision: Decision

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("wave", self.wave, 0)
        yield from at_most("wave", self.wave, WAVE_MAX)


@frozen
@checked
class OrderBody:
    """An order to hosts of a rollout, before it is signed. hosts: empty: all of it. expires_minutes: from now."""

    rule: ClosureRule
    expires_minutes: int
    hosts: tuple[str, ...] = ()

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("expires_minutes", self.expires_minutes, 1)
        yield from at_most("expires_minutes", self.expires_minutes, _EXPIRES_MINUTES_MAX)
        yield from at_most("hosts", len(self.hosts), HOSTS_MAX)


@frozen
class OrderedHost:
    """What an order allows a host, in words. may_move: whether it may move now because of it."""

    hostname: str
    text: str
    may_move: bool = False


@frozen
class OrderPreview:
    """What an order would allow until a time. count: how many hosts it is for; may_move: how many may move now.

    moved: how many do, in the run. hosts: the first of them, those that may move before the others.
    """

    rule: ClosureRule
    until: datetime
    count: int
    may_move: int
    moved: int
    hosts: tuple[OrderedHost, ...] = ()


@frozen
class RolloutPreview:
    """What becomes of a rollout: with the command, and without it.

    comes_to: its state once nothing moves any more, or at its end. done: when it is Terminal; absent: not known.
    waits: what it waits for then.
    """

    rollout_id: RolloutId
    state: RolloutState
    comes_to: RolloutState
    comes_to_without: RolloutState
    done: Span | None = None
    done_without: Span | None = None
    waits: tuple[str, ...] = ()


@frozen
class Preview:
    """What a command would do, as of log row `head_seq` and the time `at`. sentences: for people, what matters first.

    refused: why it would be refused. begin: the hosts that begin at once. begin_in_all, begin_without: those that begin
    until nothing moves any more, with the command and without it. in_flight_max: how many are under way at once.
    withdrawn: dispatches that are taken back. order: what an order to hosts would allow. is_cut: the fleet is so large
    that it was not run to its end.
    """

    head_seq: int
    at: datetime
    sentences: tuple[str, ...]
    refused: str | None = None
    begin: int = 0
    begin_in_all: int = 0
    begin_without: int = 0
    in_flight_max: int = 0
    withdrawn: int = 0
    is_cut: bool = False
    rollouts: tuple[RolloutPreview, ...] = ()
    order: OrderPreview | None = None


_EXPIRES_MINUTES_MAX: Final = int(LIFETIME_MAX.total_seconds() // 60)
_SPELLING: Final = Spelling(camel_case, Absent.LEFT_OUT)
PREVIEW: Final = Coder[Preview](_SPELLING, Preview, "preview")
PREVIEW_BODY: Final = RequestCoder[PreviewBody](_SPELLING, PreviewBody, "preview")
ORDER: Final = RequestCoder[OrderBody](_SPELLING, OrderBody, "order")
STATEMENT: Final = RequestCoder[StatementBody](_SPELLING, StatementBody, "statement")
