"""What a forecast says: ranges of time, and the reasons where there are none. Frozen data, and its JSON form.

Source: docs/spec/forecast.md.
"""

from datetime import datetime
from typing import Final

from attrs import frozen

from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import RolloutState


@frozen
class Span:
    """When something happens: one run in ten is earlier than `p10`, one half than `p50`, nine in ten than `p90`.

    Absent: so many runs did not come to it. runs: how many did.
    """

    runs: int
    p10: datetime | None = None
    p50: datetime | None = None
    p90: datetime | None = None


@frozen
class WaveForecast:
    """When a wave begins and ends. began_at, ended_at: when it did, if it has; the span is absent then."""

    wave: int
    hosts: int
    began_at: datetime | None = None
    ended_at: datetime | None = None
    begins: Span | None = None
    ends: Span | None = None


@frozen
class Straggler:
    """A host that is likely among the last. why: where it stands now. done: when it converges."""

    host: str
    why: str
    done: Span


@frozen
class EdgeForecast:
    """Something that comes by the clock: what, and when."""

    text: str
    at: Span


@frozen
class RolloutForecast:
    """How a rollout goes on, if no further host fails.

    hosts: that count. settled: of these, the ones that converged or failed. most: when 95 of 100 are. done: when the
    rollout is Terminal. waits: what keeps it from its end where runs do not come to it, in words.
    """

    rollout_id: RolloutId
    state: RolloutState
    hosts: int
    settled: int
    most: Span
    done: Span
    waves: tuple[WaveForecast, ...] = ()
    stragglers: tuple[Straggler, ...] = ()
    edges: tuple[EdgeForecast, ...] = ()
    waits: tuple[str, ...] = ()


@frozen
class StageKnown:
    """How long a stage took in this fleet: 50 and 95 of 100 observations took no longer. Absent: never observed."""

    stage: Stage
    observations: int
    p50_seconds: int | None = None
    p95_seconds: int | None = None


@frozen
class SlowHost:
    """A host that is at a stage for longer than 95 of 100 observations of this fleet were."""

    rollout_id: RolloutId
    host: str
    stage: Stage
    since: datetime
    p95_seconds: int


@frozen
class Calibration:
    """Of the last `ranges` rollouts of this fleet that ended, how many ended within P10 to P90 as it was said at the
    start."""

    ranges: int
    held: int


@frozen
class Forecast:
    """What is to come, as of log row `head_seq` and the time `at`.

    runs: how often the fleet was run forward; 0: not at all, and `unknown` says why. assumptions: what was taken for
    granted.
    """

    head_seq: int
    at: datetime
    runs: int
    stages: tuple[StageKnown, ...]
    rollouts: tuple[RolloutForecast, ...] = ()
    slow: tuple[SlowHost, ...] = ()
    unknown: str | None = None
    calibration: Calibration | None = None
    assumptions: tuple[str, ...] = ()


FORECAST: Final = Coder[Forecast](Spelling(camel_case, Absent.LEFT_OUT), Forecast, "forecast")
