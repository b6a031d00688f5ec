"""The one place of the planner that is told the time: the events that follow from its passing.

Each is an event in the log, and gates look at states alone. So a replay needs no clock, and `replan` equals
`plan_next`. The cost is that of what is due, not of the fleet.
Source: docs/spec/policy.md, Time.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final, assert_never

from nixfleet_proto.checked import require_arguments
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.deadlines import LapseDue, RetryDue
from nixfleet_state_machine.planner.guards.states import bakes_over, next_bake
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.pace.minute import MINUTE, SlotsReturned
from nixfleet_state_machine.rollout.event import HostsLapsed, RetryOrdered, RolloutEvent, Stage
from nixfleet_state_machine.rollout.state import Standing

SILENT_AFTER: Final = timedelta(minutes=3)
"""A host that was not heard of for so long is taken for off."""

_Lapses = dict[tuple[RolloutId, Stage, Standing, bool], list[str]]
_Retries = dict[tuple[RolloutId, int, str], list[str]]


def next_time(view: FleetView) -> datetime | None:
    """Return when `due_by_time` or `slots_due` has something to say next, if nothing happens before; `None`: never.

    Raises: InvalidValue.
    """
    require_arguments("next_time", view=(view, FleetView))
    returns = (first + MINUTE for _, first in view.beginnings.firsts())
    times = (view.next_due(), next_bake(view), *returns)
    return min((at for at in times if at is not None), default=None)


def next_edge(view: FleetView, calendar_at: datetime | None) -> datetime | None:
    """Return the next time at which a hold ends, a calendar begins or ends one, or a bake is over; `None`: none comes.

    Who drives the planner wakes then, since people wait for these. What comes for each host by itself, such as
    deadlines and the slots of a minute, is not among them: it is taken together at a tick. calendar_at: when the
    calendars have something to say next. O(rollouts).
    Raises: InvalidValue.
    """
    require_arguments("next_edge", view=(view, FleetView))
    times = (view.holds.next_end(), next_bake(view), calendar_at)
    return min((at for at in times if at is not None), default=None)


def slots_due(view: FleetView, now: datetime) -> tuple[SlotsReturned, ...]:
    """Return the slots of `max_per_minute` that the time gives back, one event for each budget.

    None is due twice: after these are applied, the result is empty. now: aware UTC. O(budgets that have beginnings).
    Raises: InvalidValue.
    """
    require_arguments("slots_due", view=(view, FleetView), now=(now, datetime))
    begun_by = now - MINUTE
    return tuple(
        SlotsReturned(budget, begun_by, view.beginnings.count_until(budget, begun_by), now)
        for budget, first in view.beginnings.firsts()
        if first <= begun_by
    )


def due_by_time(
    view: FleetView, now: datetime, last_heard: Callable[[str], datetime | None]
) -> tuple[RolloutEvent, ...]:
    """Return the events that the time has made due, one for all hosts of a rollout to which the same happens: lapses,
    further attempts, and bakes that are over.

    None is due twice: after these are applied and the records are set, the result is empty.
    now: aware UTC. last_heard: when a host was last heard of; `None`: not that anybody knows.
    Raises: InvalidValue.
    """
    require_arguments("due_by_time", view=(view, FleetView), now=(now, datetime))
    lapses: _Lapses = {}
    retries: _Retries = {}
    for rollout_id, hostname, due in view.dues(now):
        match due:
            case LapseDue():
                heard = last_heard(hostname)
                is_off = heard is None or now - heard > SILENT_AFTER
                withdraws = is_off and due.stage is Stage.ACK
                key = rollout_id, due.stage, due.standing, withdraws
                lapses.setdefault(key, []).append(hostname)
            case RetryDue():
                retries.setdefault((rollout_id, due.attempt, due.reason), []).append(hostname)
            case _:
                assert_never(due)
    return (*_lapsed(lapses, now), *_ordered(retries, now), *bakes_over(view, now))


def _lapsed(lapses: _Lapses, now: datetime) -> Iterator[HostsLapsed]:
    for (rollout_id, stage, standing, withdraws), hosts in sorted(lapses.items()):
        yield HostsLapsed(rollout_id, tuple(sorted(hosts)), stage, standing, now, withdraws)


def _ordered(retries: _Retries, now: datetime) -> Iterator[RetryOrdered]:
    for (rollout_id, attempt, reason), hosts in sorted(retries.items()):
        yield RetryOrdered(rollout_id, tuple(sorted(hosts)), attempt, reason, now)
