"""Law 5: a rollout's clocks stand while it is held, and those of a host that was ordered to act do not.

Source: docs/spec/policy.md, Deadlines; docs/spec/policy.md, Laws.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final, assert_never

import pytest
from attrs import Factory, define, evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import QueueDispatch, WithdrawDispatch
from nixfleet_state_machine.planner.deadlines import GRACE, backoff_of
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.passing_time import due_by_time, next_time
from nixfleet_state_machine.planner.plan import replan
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import (
    HostsLapsed,
    OperatorClearance,
    RetryOrdered,
    RolloutEvent,
    WaveBroken,
)
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_testing.pauses import pause, resume
from tests.planner.builders import NOW, host_of, terms_of, view_of

WAITING, SWITCHING, FAILED = "waiting", "switching", "failed"
ACK, ACTIVATION = timedelta(minutes=20), timedelta(minutes=45)
RETRY: Final = Retry(attempts=2, backoff_seconds=30 * 60)
MINUTES_MAX: Final = 60


def _terms() -> RolloutTerms:
    return terms_of(
        waves=((WAITING, SWITCHING, FAILED),),
        allowed=(3,),
        deadlines=Deadlines(
            ack=Deadline(_minutes(ACK), AtDeadline.SKIP),
            activation=Deadline(_minutes(ACTIVATION), AtDeadline.FAIL),
        ),
        retry=RETRY,
    )


def _minutes(time: timedelta) -> int:
    return time // timedelta(minutes=1)


class Hold(Enum):
    """What stops a rollout from beginning anything, or one host of it."""

    CHANNEL = auto()
    ROLLOUT = auto()
    HOST = auto()
    HALT = auto()


@frozen
class Pass:
    """So many minutes pass."""

    minutes: int


Move = Hold | Pass
MOVES: Final = st.lists(
    st.sampled_from(Hold) | st.builds(Pass, st.integers(1, MINUTES_MAX)), max_size=14
)
"""A hold that is on ends when it is drawn again."""


@define
class World:
    """One rollout with three hosts: a dispatch waits for one, one switches, and one failed and may try again."""

    terms: RolloutTerms = Factory(_terms)
    now: datetime = NOW
    holds: set[Hold] = Factory(set[Hold])
    happened: list[tuple[RolloutEvent, datetime]] = Factory(list[tuple[RolloutEvent, datetime]])
    view: FleetView = Factory(FleetView)

    def begin(self) -> None:
        self.view = view_of(self.terms)
        switching = host_of(self.terms, SWITCHING, HostState.ACTIVATING)
        failed = host_of(self.terms, FAILED, HostState.FAILED)
        self.view.set_host(switching)
        self.view.set_host(evolve(failed, failed_at=NOW))
        self._plan()

    def move(self, move: Move) -> None:
        match move:
            case Hold():
                self._toggle(move)
            case Pass():
                self._pass_time(timedelta(minutes=move.minutes))
            case _:
                assert_never(move)
        self._plan()

    def _toggle(self, hold: Hold) -> None:
        begins = hold not in self.holds
        (self.holds.add if begins else self.holds.discard)(hold)
        change = pause if begins else resume
        match hold:
            case Hold.CHANNEL:
                change(self.view, self.terms.channel)
            case Hold.ROLLOUT:
                change(self.view, self.terms.rollout_id)
            case Hold.HOST:
                change(self.view, f"host:{WAITING}")
            case Hold.HALT:
                self._apply(self._halt() if begins else self._clearance())
            case _:
                assert_never(hold)

    def _halt(self) -> RolloutEvent:
        return WaveBroken(self.terms.rollout_id, 0, 4, 3, 0, self.now)

    def _clearance(self) -> RolloutEvent:
        return OperatorClearance(self.terms.rollout_id, "ada", "seen", frozenset(), self.now)

    def _pass_time(self, time: timedelta) -> None:
        """Stop at each time at which something is due, as an engine does that is woken by `next_time`."""
        until = self.now + time
        while (due_at := next_time(self.view)) is not None and due_at <= until:
            self.now = due_at
            events = due_by_time(self.view, due_at, lambda _: due_at)
            assert events, due_at
            for event in events:
                self._apply(event)
                self.happened.append((event, due_at))
            self._plan()
        self.now = until

    def _apply(self, event: RolloutEvent) -> None:
        record = self.view.rollout(self.terms.rollout_id)
        self.view.set_rollout(step_rollout(record, event, self.now)[0])

    def _plan(self) -> None:
        for action in replan(self.view, {}, self.now):
            if isinstance(action, QueueDispatch | WithdrawDispatch):
                is_queued = isinstance(action, QueueDispatch)
                since = self.now if is_queued else None
                self.view.set_queued(action.rollout_id, action.host, is_queued, since)


def _free(moves: list[Move], host: str, since: timedelta) -> Iterator[tuple[timedelta, timedelta]]:
    """Yield the stretches of the world's time in which nothing held `host`, from `since` on.

    A hold that ends at once ends a stretch too: the dispatch was withdrawn, and is queued again.
    """
    now, holds = timedelta(0), set[Hold]()
    began: timedelta | None = timedelta(0)
    for move in moves:
        match move:
            case Hold():
                holds ^= {move}
                is_held = _is_held(holds, host)
                if is_held and began is not None:
                    yield max(began, since), now
                began = None if is_held else now if began is None else began
            case Pass(minutes):
                now += timedelta(minutes=minutes)
            case _:
                assert_never(move)
    if began is not None:
        yield max(began, since), now


def _is_held(holds: set[Hold], host: str) -> bool:
    return any(hold is not Hold.HOST or host == WAITING for hold in holds)


def _lapse_of(moves: list[Move], host: str, since: timedelta) -> timedelta | None:
    """Return when the acknowledgement of `host` is overdue: after the first stretch that lasted as long as it may."""
    ends = (began + ACK for began, ended in _free(moves, host, since) if ended - began >= ACK)
    return next(ends, None)


def _happened(world: World, kind: type[RolloutEvent], host: str) -> list[timedelta]:
    return [
        at - NOW
        for event, at in world.happened
        if isinstance(event, HostsLapsed | RetryOrdered)
        and isinstance(event, kind)
        and host in event.hosts
    ]


def _at(*times: timedelta | None, by: timedelta) -> list[timedelta]:
    return [each for each in times if each is not None and each <= by]


@given(moves=MOVES)
def test_only_the_clock_of_an_acknowledgement_stands_while_a_rollout_is_held(
    moves: list[Move],
) -> None:
    """An acknowledgement is overdue after one stretch without a hold; a switch and a back-off end at their times.

    What is expected is computed from the moves alone.
    """
    world = World()
    world.begin()
    for move in moves:
        world.move(move)
    by = world.now - NOW
    again_at = backoff_of(RETRY, FAILED, 1)

    ack_at = _lapse_of(moves, WAITING, timedelta(0))
    assert _happened(world, HostsLapsed, WAITING) == _at(ack_at, by=by)
    assert _happened(world, HostsLapsed, SWITCHING) == _at(ACTIVATION + GRACE, by=by)
    assert _happened(world, RetryOrdered, FAILED) == _at(again_at, by=by)
    ack_again_at = _lapse_of(moves, FAILED, again_at)
    assert _happened(world, HostsLapsed, FAILED) == _at(ack_again_at, by=by)


@pytest.mark.parametrize("hold", Hold)
def test_each_kind_of_hold_stops_the_clock_of_an_acknowledgement(hold: Hold) -> None:
    """A host that is held for an hour is not overdue, and has all of its time when the hold ends."""
    world = World()
    world.begin()
    minutes = _minutes(ACK)
    moves: list[Move] = [Pass(minutes - 1), hold, Pass(60), hold, Pass(minutes - 1)]
    for move in moves:
        world.move(move)
    assert _happened(world, HostsLapsed, WAITING) == []

    world.move(Pass(1))
    overdue_at = timedelta(minutes=minutes - 1 + 60) + ACK
    assert _happened(world, HostsLapsed, WAITING) == [overdue_at]
