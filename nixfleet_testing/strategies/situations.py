"""Views of a fleet, each made of records that legal histories lead to and that fit together.

A view cannot be read back or compared, so what is drawn is a `FleetSituation`: frozen, printable, and able to make
as many equal views as a test needs. Hosts are where any history may have led them, also past a gate that would
hold them today: that is what a fleet looks like after a policy was changed.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from attrs import evolve, frozen
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.progress import due_rollout_events
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.replay import replay_rollout
from nixfleet_state_machine.rollout.event import (
    HostJoined,
    HostStateChanged,
    RolloutEvent,
    RolloutOpened,
)
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.pauses import pause
from nixfleet_testing.strategies.hosts import host_histories
from nixfleet_testing.strategies.names import START, times
from nixfleet_testing.strategies.releases import fleets, terms


@frozen
class OpenSituation:
    """An open rollout: its terms, its record, its hosts, and which of them have a dispatch in the queue."""

    terms: RolloutTerms
    record: RolloutRecord
    hosts: tuple[HostRolloutState, ...]
    queued: tuple[str, ...]


@frozen
class FleetSituation:
    """All that a view is made of. offers: one per channel. holds: scopes that an operator paused."""

    offers: tuple[RolloutTerms, ...]
    rollouts: tuple[OpenSituation, ...]
    holds: tuple[str, ...]

    def view(self) -> FleetView:
        """Return a new view of this situation."""
        view = FleetView(UndoLog())
        for offered in self.offers:
            view.offer(offered)
        for rollout in self.rollouts:
            _put(view, rollout)
        for scope in self.holds:
            pause(view, scope)
        return view


def fleet_views() -> SearchStrategy[FleetView]:
    """Views of small fleets. Draw `fleet_situations` where a failure has to show what was in one."""
    return fleet_situations().map(FleetSituation.view)


@st.composite
def fleet_situations(draw: st.DrawFn) -> FleetSituation:
    """Small fleets with each channel's rollout offered, and most of the rollouts under way."""
    fleet = draw(fleets())
    offers = tuple(draw(terms(fleet, channel)) for channel in sorted(fleet.channels))
    under_way = draw(st.sampled_from((offers, offers, offers[:1], ())))
    rollouts = tuple(_open(draw, offered) for offered in under_way)
    scopes = [*fleet.channels, *(rollout.record.rollout_id for rollout in rollouts)]
    holds = draw(st.lists(st.sampled_from(scopes), max_size=1))
    return FleetSituation(offers, rollouts, tuple(holds))


def _open(draw: st.DrawFn, offered: RolloutTerms) -> OpenSituation:
    hosts = tuple(_host(draw, offered, name) for name in offered.targets)
    pending = [host.hostname for host in hosts if host.state is HostState.PENDING]
    queued = tuple(name for name in pending if draw(st.booleans()))
    opened = open_rollout(
        RolloutOpened(offered.rollout_id, offered.channel, offered.target_ref, START), 1, ()
    )
    bare = OpenSituation(
        offered, opened, tuple(_dispatched(host, queued) for host in hosts), queued
    )
    now = draw(times())
    joined = replay_rollout(opened, ((event, now) for event in _reported(bare, now)))
    return evolve(bare, record=_progressed(evolve(bare, record=joined), now))


def _host(draw: st.DrawFn, offered: RolloutTerms, name: str) -> HostRolloutState:
    pending = HostRolloutState.pending(
        offered.rollout_id, name, offered.channel, offered.targets[name], None, None
    )
    if draw(st.booleans()):
        return pending
    sent = pending.dispatched(START, draw(times()))
    return draw(host_histories(st.sampled_from(_LEFT_PENDING), st.just(sent))).record


_LEFT_PENDING = tuple(state for state in HostState if state is not HostState.PENDING)


def _dispatched(host: HostRolloutState, queued: Iterable[str]) -> HostRolloutState:
    return host.dispatched(START, START) if host.hostname in queued else host


def _reported(rollout: OpenSituation, at: datetime) -> Iterator[RolloutEvent]:
    """The events of a rollout's hosts: the first one that joined, then their state changes."""
    id_: RolloutId = rollout.terms.rollout_id
    left = [host for host in rollout.hosts if host.state is not HostState.PENDING]
    for name in (*rollout.queued, *(host.hostname for host in left)):
        yield HostJoined(id_, name, rollout.terms.wave_of.get(name, 0), at)
    for host in left:
        yield HostStateChanged(id_, host.hostname, HostState.PENDING, host.state, at)


def _progressed(rollout: OpenSituation, now: datetime) -> RolloutRecord:
    view = FleetView(UndoLog())
    _put(view, rollout)
    due = due_rollout_events(view, rollout.record.rollout_id, now)
    return replay_rollout(rollout.record, ((event, now) for event in due))


def _put(view: FleetView, rollout: OpenSituation) -> None:
    view.open(rollout.record, rollout.terms)
    for host in rollout.hosts:
        view.set_host(host)
    for name in rollout.queued:
        view.set_queued(rollout.record.rollout_id, name, True)
