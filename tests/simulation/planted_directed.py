"""Bugs that few seeds find, each with a scenario in which it shows.

As in `planted`: each function plants one; its sentence says what goes wrong. What a drawn scenario rarely has together,
like two reverts in one wave in a certain order, or a process that dies between two portions, is put together here.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import pytest
from attrs import evolve, frozen

from nixfleet_control_plane.engine import engine, entry_handlers, rollout_course
from nixfleet_control_plane.engine.record_flush import flush
from nixfleet_control_plane.engine.state import FlushCycle, HostKey, State
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Tolerance
from nixfleet_proto.wire import Dispatch
from nixfleet_simulation.scenario.acts import (
    CONTROL_PLANE,
    Act,
    Amend,
    Boundary,
    Crash,
    Pause,
    PowerOff,
    Release,
)
from nixfleet_simulation.scenario.closure_behaviour import ClosureBehaviour, Health
from nixfleet_simulation.scenario.scenario import ChannelLayout, PolicyLayout, Scenario
from nixfleet_state_machine.planner.members import members_change
from nixfleet_state_machine.rollout.event import MembersChanged
from tests.simulation.planted import Plant

HOSTS: Final = ("host-01", "host-02", "host-03", "host-04")


@frozen
class Directed:
    """A bug, and a scenario that shows it."""

    plant: Plant
    scenario: Scenario


def claims_records_that_it_did_not_write(patch: pytest.MonkeyPatch) -> None:
    """The cache of host records is said to be true up to where the log ends, not where the writing began."""

    def boastful(state: State, commit: Any, limit: int) -> Any:
        cycle = state.flush_cycle.get()
        if cycle.left:
            state.flush_cycle.set(FlushCycle(cycle.left, state.head_seq))
        return flush(state, commit, 1)

    patch.setattr(engine, "flush", boastful)


def bars_nothing_when_a_wave_breaks(patch: pytest.MonkeyPatch) -> None:
    """Hosts that reverted under a tolerance are forgotten when it is used up."""
    patch.setattr(entry_handlers, "reverted_closures", lambda *_: ())


def begins_waves_before_their_time(patch: pytest.MonkeyPatch) -> None:
    """The signed time of a wave means nothing to the control plane."""
    patch.setattr(State, "hold_waves", lambda *_: None)


def counts_the_time_that_a_rollout_was_held(patch: pytest.MonkeyPatch) -> None:
    """A dispatch that is queued again after a pause is awaited from when it was queued first."""
    queued = State.put_dispatch
    since: dict[HostKey, datetime | None] = {}

    def remembering(self: State, key: HostKey, dispatch: Dispatch, at: datetime | None) -> None:
        queued(self, key, dispatch, since.setdefault(key, at))

    patch.setattr(State, "put_dispatch", remembering)


def who_left_counts_on(patch: pytest.MonkeyPatch) -> None:
    """The log does not say who leaves a rollout: it waits for them for ever."""

    def keeping(*terms_and_record: Any) -> MembersChanged | None:
        event = members_change(*terms_and_record)
        return None if event is None else evolve(event, left=())

    patch.setattr(rollout_course, "members_change", keeping)


def joiner_reopens_its_wave(patch: pytest.MonkeyPatch) -> None:
    """A host that joins a wave which is done counts in it."""

    def reopening(*terms_and_record: Any) -> MembersChanged | None:
        event = members_change(*terms_and_record)
        return None if event is None else evolve(event, late=())

    patch.setattr(rollout_course, "members_change", reopening)


def who_left_keeps_its_dispatch(patch: pytest.MonkeyPatch) -> None:
    """What was queued for a host is handed out, although its rollout has it no more."""
    patch.setattr(entry_handlers, "_withdraw", lambda *_: None)


def _dying_between_portions() -> Scenario:
    """The control plane dies every few seconds while two releases are under way, in all states of its cache."""
    channel = ChannelLayout("stable", (HOSTS,), soak_minutes=1)
    crashes = (
        Crash(60.0 + 13 * number, CONTROL_PLANE, Boundary.AFTER_WRITE, 5.0)
        for number in range(1, 40)
    )
    releases = (Release(60, "stable", "r1"), Release(400, "stable", "r2"))
    return _scenario(channel, *releases, *crashes)


def _one_reverts_before_the_wave_breaks() -> Scenario:
    """Of hosts that share a closure the first reverts, which is tolerated, and minutes later the second fails."""
    policy = PolicyLayout(Tolerance(1))
    channel = ChannelLayout("stable", (HOSTS,), soak_minutes=5, policy=policy)
    first = ClosureBehaviour(health=Health.BAD)
    second = ClosureBehaviour(health=Health.BAD_LATER, late_seconds=150)
    behaviours = ((HOSTS[0], first), (HOSTS[1], second))
    return _scenario(channel, Release(60, "stable", "r1", "shared", behaviours))


def _second_wave_has_a_time() -> Scenario:
    """The first wave is done long before the second may begin."""
    waves = (HOSTS[:2], HOSTS[2:])
    channel = ChannelLayout("stable", waves, soak_minutes=1, begins_after_seconds=(0, 1200))
    return _scenario(channel, Release(60, "stable", "r1"))


def _host_leaves_and_joins() -> Scenario:
    """A host that is off leaves the first wave before it came, and joins once that is done; the other goes on."""
    channel = ChannelLayout("stable", (HOSTS[:2], HOSTS[2:]), soak_minutes=1)
    return _scenario(
        channel,
        PowerOff(30, HOSTS[1], 240),
        Release(60, "stable", "r1"),
        Amend(150, "stable", HOSTS[1]),
        Amend(420, "stable", HOSTS[1]),
    )


def _paused_while_a_host_is_off() -> Scenario:
    """A host is off from before its dispatch until after the rollout was paused for longer than it has time."""
    deadlines = Deadlines(ack=Deadline(5, AtDeadline.SKIP))
    channel = ChannelLayout("stable", (HOSTS,), policy=PolicyLayout(deadlines=deadlines))
    return _scenario(
        channel,
        PowerOff(30, HOSTS[0], 1800),
        Release(60, "stable", "r1"),
        Pause(180, "stable", is_rollout=True, for_seconds=600),
    )


def _scenario(channel: ChannelLayout, *acts: Act) -> Scenario:
    in_order = tuple(sorted(acts, key=lambda act: act.at_seconds))
    return Scenario(1, (channel,), in_order, 900.0, real_signatures=False)


DIRECTED: Final[Mapping[str, Directed]] = {
    directed.plant.__name__: directed
    for directed in (
        Directed(claims_records_that_it_did_not_write, _dying_between_portions()),
        Directed(bars_nothing_when_a_wave_breaks, _one_reverts_before_the_wave_breaks()),
        Directed(begins_waves_before_their_time, _second_wave_has_a_time()),
        Directed(who_left_counts_on, _host_leaves_and_joins()),
        Directed(joiner_reopens_its_wave, _host_leaves_and_joins()),
        Directed(who_left_keeps_its_dispatch, _host_leaves_and_joins()),
        Directed(counts_the_time_that_a_rollout_was_held, _paused_while_a_host_is_off()),
    )
}
