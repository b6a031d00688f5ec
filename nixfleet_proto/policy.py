"""A channel's rollout policy, and the selectors that it names hosts by. Frozen data, no behaviour.

The part of a declaration that the reducers need, in a file of its own, so that taking a step does not create the
classes of a whole fleet. `nixfleet_proto.fleet` has these names as well.
Source: docs/spec/declarations.md, Resolved fleet.
"""

from collections.abc import Iterator
from typing import Final

from attrs import field, frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.checked import WordEnum, at_least, at_most, checked
from nixfleet_proto.errors import ValueProblem
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.steering.guards import WaveGuards


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
class Tolerance:
    """How many hosts of a wave may fail before it is broken. Both given: the smaller; none given: no host."""

    max_failures: int | None = None
    max_failure_pct: int | None = None

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from tolerance_problems(self.max_failures, self.max_failure_pct)

    @property
    def is_declared(self) -> bool:
        """Whether anything is said: a wave that says nothing has the tolerance of its policy."""
        return self.max_failures is not None or self.max_failure_pct is not None

    def allowed(self, base: int) -> int:
        """Return how many of `base` hosts may fail. A share is rounded down."""
        limits = [] if self.max_failures is None else [self.max_failures]
        if self.max_failure_pct is not None:
            limits.append(base * self.max_failure_pct // 100)
        return min(limits, default=0)


def tolerance_problems(
    max_failures: int | None, max_failure_pct: int | None
) -> Iterator[ValueProblem]:
    """Yield the numbers that a tolerance cannot have, for every record that has one."""
    if max_failures is not None:
        yield from at_least("max_failures", max_failures, 0)
    if max_failure_pct is not None:
        yield from at_least("max_failure_pct", max_failure_pct, 1)
        yield from at_most("max_failure_pct", max_failure_pct, 100)


DEADLINE_MINUTES_MAX: Final = 2**31 - 1
"""About 4,000 years: with more, the time of a deadline could not be computed."""


class AtDeadline(WordEnum):
    """What follows when a host is silent past a deadline."""

    WAIT = "wait"
    SKIP = "skip"
    FAIL = "fail"


@frozen
@checked
class Deadline:
    """How long a stage may take. There is no default for `then`: who sets a deadline says what follows."""

    minutes: int
    then: AtDeadline

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("minutes", self.minutes, 1)
        yield from at_most("minutes", self.minutes, DEADLINE_MINUTES_MAX)


@frozen
@checked
class Deadlines:
    """The deadline of each stage of a host; `None`: it may take for ever.

    ack: from the queueing of a dispatch to its acknowledgement. activation: from there to the end of the switch.
    reboot: as long as the switch waits for a reboot. convergence: from the activation to Converged.
    """

    ack: Deadline | None = None
    activation: Deadline | None = None
    reboot: Deadline | None = None
    convergence: Deadline | None = None

    @property
    def is_declared(self) -> bool:
        """Whether any stage has a deadline."""
        return bool(self.by_stage())

    def by_stage(self) -> dict[str, Deadline]:
        """Return the deadlines that are declared, by the name of their stage, in the order of stages."""
        stages = {
            "ack": self.ack,
            "activation": self.activation,
            "reboot": self.reboot,
            "convergence": self.convergence,
        }
        return {stage: deadline for stage, deadline in stages.items() if deadline is not None}


@frozen
@checked
class Retry:
    """How often a host may try a closure, and how long it waits after a failure.

    The wait after the first attempt is `backoff_seconds`, and `factor` times as long after each further one.
    """

    attempts: int = 1
    backoff_seconds: int = 60
    factor: int = 2

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("attempts", self.attempts, 1)
        yield from at_least("backoff_seconds", self.backoff_seconds, 0)
        yield from at_least("factor", self.factor, 1)


class Recall(WordEnum):
    """Who may have hosts go back from a release that did not fail. OPERATOR: one with a warrant."""

    NEVER = "never"
    OPERATOR = "operator"


@frozen
@checked
class PolicyWave:
    """A wave as a policy declares it: by selector, not by name. A tolerance that is absent is the policy's.

    guards: what must have happened before it begins.
    """

    selector: Selector
    soak_minutes: int = 0
    max_failures: int | None = None
    max_failure_pct: int | None = None
    guards: WaveGuards = WaveGuards()

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("soak_minutes", self.soak_minutes, 0)
        yield from tolerance_problems(self.max_failures, self.max_failure_pct)

    @property
    def tolerance(self) -> Tolerance:
        """The tolerance that the wave declares itself."""
        return Tolerance(self.max_failures, self.max_failure_pct)


@frozen
@checked
class RolloutPolicy:
    """The rollout policy of a channel; the host machine reads `on_health_failure`.

    max_failures, max_failure_pct: of every wave that says nothing itself.
    Source: docs/spec/policy.md.
    """

    on_health_failure: OnHealthFailure = OnHealthFailure.HALT
    strategy: str = "waves"
    waves: tuple[PolicyWave, ...] = ()
    health_gate: FrozenMap[str, JsonValue] = field(factory=lambda: FrozenMap[str, JsonValue]())
    max_failures: int | None = None
    max_failure_pct: int | None = None
    deadlines: Deadlines = Deadlines()
    retry: Retry = Retry()
    recall: Recall = Recall.NEVER

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from tolerance_problems(self.max_failures, self.max_failure_pct)

    @property
    def tolerance(self) -> Tolerance:
        """The tolerance of every wave that declares none itself."""
        return Tolerance(self.max_failures, self.max_failure_pct)

    def tolerance_of(self, own: Tolerance) -> Tolerance:
        """Return the tolerance of a wave that declares `own`."""
        return own if own.is_declared else self.tolerance
