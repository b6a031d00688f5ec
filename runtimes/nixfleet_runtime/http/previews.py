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
from nixfleet_runtime.http.forecasts import Span
from nixfleet_runtime.http.request_limits import RequestCoder
from nixfleet_state_machine.rollout.state import RolloutState


@frozen
class PreviewBody:
    """The command that is meant: the path and the body that it is sent with.

    Of a statement on a wave the body is what is stated, `{"wave": …, "decision": …}`: it is not signed yet.
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
    withdrawn: dispatches that are taken back. is_cut: the fleet is so large that it was not run to its end.
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


_SPELLING: Final = Spelling(camel_case, Absent.LEFT_OUT)
PREVIEW: Final = Coder[Preview](_SPELLING, Preview, "preview")
PREVIEW_BODY: Final = RequestCoder[PreviewBody](_SPELLING, PreviewBody, "preview")
STATEMENT: Final = RequestCoder[StatementBody](_SPELLING, StatementBody, "statement")
