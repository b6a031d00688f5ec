"""What the agent's log says of its host: a line for each commit to the journal that changes something. Pure.

The sentences of facts are those of the control plane's log. Each line is escaped and bounded. What only repeats has
no line: the result of a probe that is as before, a lock that says the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, assert_never

from attrs import define, field, frozen

from nixfleet_agent.engine.state import LocalRollout
from nixfleet_agent.messages.inputs import Intent, IntentKind
from nixfleet_agent.messages.writes import (
    AppendEvent,
    MarkAcknowledged,
    MarkRefused,
    MarkUnsent,
    PutIntent,
    PutNewestRelease,
    PutOrder,
    PutRecord,
    PutRolledBack,
    RemoveIntent,
    RemoveRollout,
    SetRolloutAside,
    Write,
)
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationFailed,
    AgentEvent,
    Failed,
    Postponed,
    ProbeResult,
    ProbeStatus,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.fact_words import fact_words, is_routine, short
from nixfleet_runtime.kernel.visible import shortened, visible
from nixfleet_state_machine.host.effect import LogLevel

LINE_LENGTH_MAX: Final = 600


@frozen
class Line:
    """A line of the agent's log."""

    level: LogLevel
    text: str


@define
class _Known:
    """What was said of a rollout already. postponed: the last answer of the lock, which is reported again at times."""

    probes: dict[str, ProbeStatus] = field(factory=dict)
    postponed: tuple[datetime, str] | None = None
    is_closed: bool = False


class Narrator:
    """Says what commits change, in the order in which they are made. rollouts: those of the journal at the start."""

    def __init__(self, rollouts: Iterable[LocalRollout]) -> None:
        self._rollouts: dict[RolloutId, _Known] = {}
        self._at_start = tuple(rollouts)
        for rollout in self._at_start:
            probes = {name: it.status for name, it in rollout.record.probes.items()}
            known = _Known(probes, is_closed=rollout.closed_at is not None)
            self._rollouts[rollout.record.rollout_id] = known

    def beginning(self) -> Iterator[Line]:
        """Yield a line for each rollout that a start goes on with."""
        for rollout in self._at_start:
            if rollout.closed_at is None:
                record = rollout.record
                where = f"goes on: {record.state} on {short(record.target_closure)}"
                yield _line(LogLevel.INFO, record.rollout_id, where)

    def lines(self, writes: Sequence[Write]) -> Iterator[Line]:
        """Yield the lines of a commit, which is durable."""
        for write in writes:
            yield from self._lines_of(write)

    def _lines_of(self, write: Write) -> Iterator[Line]:
        match write:
            case AppendEvent():
                yield from self._fact(write.rollout_id, write.fact)
            case PutRecord():
                known = self._known(write.record.rollout_id)
                if write.closed_at is not None and not known.is_closed:
                    yield _line(
                        LogLevel.INFO, write.record.rollout_id, "a newer rollout takes over"
                    )
                known.is_closed = write.closed_at is not None
            case PutIntent():
                yield from _intent(write.intent)
            case PutRolledBack():
                left, since = write.left.closure, write.left.release.rollout_id
                said = f"does not run {short(left)} again, unless a release brings it that is signed after {since}"
                yield _line(LogLevel.WARNING, since, said)
            case MarkRefused():
                said = f"the control plane refuses a fact of this host for good: {write.reason}"
                yield _line(LogLevel.WARNING, None, said)
            case SetRolloutAside() | RemoveRollout():
                self._rollouts.pop(write.rollout_id, None)
            case (
                MarkAcknowledged() | MarkUnsent() | PutNewestRelease() | PutOrder() | RemoveIntent()
            ):
                pass
            case _:
                assert_never(write)

    def _fact(self, rollout_id: RolloutId, fact: AgentEvent) -> Iterator[Line]:
        known = self._known(rollout_id)
        if not _is_as_before(known, fact):
            yield _line(_level(fact), rollout_id, fact_words(fact))
        if isinstance(fact, ProbeResult):
            known.probes[fact.probe_name] = fact.status
        elif isinstance(fact, ActivationCompleted):
            known.probes.clear()  # Results from before the switch say nothing of what runs now.
        elif isinstance(fact, Postponed):
            known.postponed = None if fact.is_over else (fact.until, fact.reason)

    def _known(self, rollout_id: RolloutId) -> _Known:
        return self._rollouts.setdefault(rollout_id, _Known())


def _is_as_before(known: _Known, fact: AgentEvent) -> bool:
    if isinstance(fact, Postponed):
        return not fact.is_over and known.postponed == (fact.until, fact.reason)
    before = known.probes.get(fact.probe_name) if isinstance(fact, ProbeResult) else None
    return is_routine(fact, before)


def _intent(intent: Intent) -> Iterator[Line]:
    kind = intent.kind
    match kind:
        case IntentKind.SWITCH:
            what = f"the switch to {short(intent.closure)}"
        case IntentKind.ROLLBACK:
            what = f"the rollback to {short(intent.closure)}"
            if intent.attempts == 0:
                yield _line(LogLevel.WARNING, intent.rollout_id, f"begins {what}")
        case _:
            assert_never(kind)
    if intent.attempts > 1:
        said = f"begins {what} again, which an end of the agent or the machine cut off"
        yield _line(LogLevel.WARNING, intent.rollout_id, said)


def _level(fact: AgentEvent) -> LogLevel:
    is_bad = isinstance(fact, ActivationFailed | Failed | Regressed)
    is_failing = isinstance(fact, ProbeResult) and fact.status is ProbeStatus.FAIL
    if isinstance(fact, RollbackComplete):
        return LogLevel.WARNING if fact.exit_code == 0 else LogLevel.ERROR
    return LogLevel.WARNING if is_bad or is_failing else LogLevel.INFO


def _line(level: LogLevel, rollout_id: str | None, said: str) -> Line:
    about = "" if rollout_id is None else f"{rollout_id}: "
    return Line(level, bounded(f"{about}{said}"))


def bounded(text: str) -> str:
    """Return `text` on one line, escaped, and without its middle if it is long."""
    return shortened(visible(text), LINE_LENGTH_MAX)
