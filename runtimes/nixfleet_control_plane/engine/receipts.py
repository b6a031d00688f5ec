"""Bounds what hosts say of time by this control plane's own clock: no fact from the future, no soak cut short.

A host's clock may be wrong for a moment: no battery, a machine that was suspended. Facts keep their dates, so that a
replay gives the same record; but a fact is taken only when its date can be true, and a convergence only when the soak
has passed here too.

The soak runs from the activation, which is dated by the host, but not after its receipt here, and not before the latest
heartbeat that showed the host without it. A heartbeat lists the numbers in the host's journal; one that lists more than
was received here shows nothing. So the own times of a host count where nothing else can: after a lost database, when
all receipts come at once, and for a host that was cut off.
Rejected: counting from the receipt alone, which would hold a whole fleet for a soak after each outage; refusing facts
that are dated before their dispatch, because those of a replay are, and a past date never becomes right.
Source: docs/spec/runtimes.md, Clocks.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, assert_never

from attrs import frozen

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    Postponed,
    ProbeFailureFirst,
    ProbeObservedFirst,
    ProbeResult,
    ProbeTopologyDeclared,
    Recalled,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.transport import EventEarly
from nixfleet_state_machine.undo import UndoableDict, UndoLog

AHEAD_MAX: Final = timedelta(seconds=60)
"""How far a fact may be dated ahead of its receipt: as far as the clock of a signed request may be wrong."""
SOAK_ALLOWANCE: Final = timedelta(seconds=60)
"""How much shorter than declared a soak may look here: a heartbeat may come this long after it was written."""

_Key = tuple[RolloutId, str]


@frozen
class _Activated:
    """When a host activated: by this control plane's clock, and as the host says."""

    here: datetime
    there: datetime


class Receipts:
    """By this control plane's clock: when hosts were seen without an activation, and when they activated."""

    def __init__(self, undo: UndoLog) -> None:
        self._seen_without = UndoableDict[_Key, datetime](undo)
        self._activated = UndoableDict[_Key, _Activated](undo)

    def note_in_step(self, key: _Key, at: datetime) -> None:
        """A heartbeat showed that the host has no fact that was not received here; it has not activated yet."""
        self._seen_without.set(key, at)

    def note(self, key: _Key, fact: AgentEvent, at: datetime) -> None:
        """The host's record has taken `fact`, received at `at`."""
        if isinstance(fact, ActivationCompleted):
            self._activated.set(key, self._activated_at(key, fact, at))
            self._seen_without.discard(key)
        elif isinstance(fact, Converged | Failed | ActivationFailed):
            self.forget(key)

    def forget(self, key: _Key) -> None:
        """Nothing of this host is awaited any more."""
        self._seen_without.discard(key)
        self._activated.discard(key)

    def early(
        self, key: _Key, fact: AgentEvent, soak: Callable[[], timedelta], now: datetime
    ) -> EventEarly | None:
        """Return how `fact`, which is new, cannot be true yet; `None` if it can."""
        if time_of(fact) - now > AHEAD_MAX:
            return _dated_ahead(key, fact, now)
        if isinstance(fact, Converged):
            activated = self._activated.get(key)
            if activated is not None:
                soaked, needed = now - activated.here, soak() - SOAK_ALLOWANCE
                # One that is too early by the host's own dates stays so: the host machine refuses it.
                if soaked < needed <= fact.converged_at - activated.there:
                    return _soaks_still(key, fact, soaked, soak())
        return None

    def _activated_at(
        self, key: _Key, fact: ActivationCompleted, received_at: datetime
    ) -> "_Activated":
        earliest = self._seen_without.get(key)
        said = fact.completed_at if earliest is None else max(fact.completed_at, earliest)
        return _Activated(min(said, received_at), fact.completed_at)


def _dated_ahead(key: _Key, fact: AgentEvent, now: datetime) -> EventEarly:
    date = time_of(fact)
    seconds = _whole_seconds(date - now - AHEAD_MAX)
    return EventEarly(
        key[0],
        fact.seq,
        f"{type(fact).__name__} is dated {date.isoformat()}; expected at most {AHEAD_MAX.seconds} s after the control "
        f"plane's clock, which shows {now.isoformat()}: set the host's clock; the event is taken once its date is over",
        seconds,
    )


def _soaks_still(key: _Key, fact: AgentEvent, soaked: timedelta, soak: timedelta) -> EventEarly:
    return EventEarly(
        key[0],
        fact.seq,
        f"{type(fact).__name__} came after {int(soaked.total_seconds())} s of the soak by the control plane's clock; "
        f"expected {int(soak.total_seconds())} s: it is taken once they have passed",
        _whole_seconds(soak - SOAK_ALLOWANCE - soaked),
    )


def _whole_seconds(wait: timedelta) -> int:
    return max(1, -int(-wait.total_seconds() // 1))


def time_of(fact: AgentEvent) -> datetime:
    """Return the time that the host gives for `fact`."""
    match fact:
        case DispatchAck():
            return fact.received_at
        case ActivationStarted():
            return fact.started_at
        case ActivationCompleted() | RollbackComplete():
            return fact.completed_at
        case ActivationFailed() | Failed():
            return fact.failed_at
        case ActivationDeferred():
            return fact.deferred_at
        case ProbeTopologyDeclared():
            return fact.declared_at
        case ProbeObservedFirst() | ProbeResult():
            return fact.observed_at
        case ProbeFailureFirst():
            return fact.first_failed_at
        case Converged():
            return fact.converged_at
        case Regressed():
            return fact.regressed_at
        case Recalled():
            return fact.recalled_at
        case Postponed():
            return fact.postponed_at
        case _:
            assert_never(fact)
