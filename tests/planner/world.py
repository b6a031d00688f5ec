"""A fleet as plain dicts, to hold the planner's view against: no counts, no index, no undoing."""

from datetime import datetime

from attrs import Factory, define, evolve

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_state_machine.shards.channel_seen import ChannelSeen
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.pauses import pause

HostKey = tuple[RolloutId, str]

NOW = datetime.fromisoformat("2026-05-26T12:00:00Z")


@define
class World:
    """All that a plan depends on. forgotten: pruned rollouts of which only the record is left.

    begun: the times of beginnings whose slots have not come back, in order, by budget name.
    seen: what other shards say of their channels.
    """

    offers: dict[str, RolloutTerms]
    terms: dict[RolloutId, RolloutTerms]
    rollouts: dict[RolloutId, RolloutRecord]
    forgotten: set[RolloutId]
    hosts: dict[HostKey, HostRolloutState]
    queued: set[HostKey]
    outstanding: dict[HostKey, int]
    holds: dict[str, str]
    quarantines: dict[str, frozenset[str]]
    begun: dict[str, list[datetime]]
    seen: dict[str, ChannelSeen] = Factory(dict[str, ChannelSeen])

    @classmethod
    def empty(cls) -> "World":
        """Return a world without anything."""
        return cls({}, {}, {}, set(), {}, set(), {}, {}, {}, {})

    def copy(self) -> "World":
        """Return a world that may be changed apart from this one. Values are immutable."""
        return evolve(
            self,
            offers=dict(self.offers),
            terms=dict(self.terms),
            rollouts=dict(self.rollouts),
            forgotten=set(self.forgotten),
            hosts=dict(self.hosts),
            queued=set(self.queued),
            outstanding=dict(self.outstanding),
            holds=dict(self.holds),
            quarantines=dict(self.quarantines),
            begun={budget: list(times) for budget, times in self.begun.items()},
            seen=dict(self.seen),
        )

    def forget(self, rollout_id: RolloutId) -> None:
        """Drop a rollout; its record stays while the channel's manifest names it."""
        for key in [key for key in self.hosts if key[0] == rollout_id]:
            del self.hosts[key]
            self.queued.discard(key)
            self.outstanding.pop(key, None)
        self.holds.pop(rollout_id, None)
        self.forgotten.add(rollout_id)
        offered = self.offers.get(rollout_id.channel)
        if offered is None or offered.rollout_id != rollout_id:
            self.drop_forgotten(rollout_id)

    def drop_forgotten(self, rollout_id: RolloutId) -> None:
        """Drop what is left of a forgotten rollout."""
        if rollout_id in self.forgotten:
            self.forgotten.discard(rollout_id)
            del self.rollouts[rollout_id]
            del self.terms[rollout_id]

    def fresh_view(self) -> FleetView:
        """Return a view made of what is here now."""
        view = FleetView(UndoLog())
        for terms in self.offers.values():
            view.offer(terms)
        for seen in self.seen.values():
            view.see(seen)
        for rollout_id, record in self.rollouts.items():
            view.open(record, self.terms[rollout_id])
        for rollout_id in self.forgotten:
            view.forget_rollout(rollout_id)
        for host in self.hosts.values():
            view.set_host(host)
        for key in self.queued:
            view.set_queued(*key, True)
        for key, count in self.outstanding.items():
            view.set_outstanding(*key, count)
        for scope, why in self.holds.items():
            pause(view, scope, why)
        for budget, times in self.begun.items():
            for at in times:
                view.note_beginning(budget, at)
        return view


def reading(view: FleetView) -> object:
    """Return all that can be read from a view, for comparison."""
    open_ids = [id_ for id_ in sorted(view.rollouts) if _is_open(view, id_)]
    return {
        "rollouts": dict(view.rollouts),
        "offers": dict(view.offers),
        "seen": dict(view.seen),
        "holds": set(view.holds),
        "open": open_ids,
        "hosts": {id_: [*view.hosts_of(id_)] for id_ in open_ids},
        "queued": {id_: [*view.queued_of(id_)] for id_ in open_ids},
        "tallies": {
            (id_, wave): view.tally(id_, wave)
            for id_ in open_ids
            for wave in (None, *range(view.terms(id_).last_wave + 1))
        },
        "in flight": {
            budget.name: view.in_flight(budget.selector)
            for id_ in open_ids
            for budget in view.terms(id_).budgets
        },
        "ramps": {
            (id_, name): (view.under_way_of(id_, name), view.converged_of(id_, name))
            for id_ in open_ids
            for name in view.terms(id_).ramped
        },
        "beginnings": view.beginnings.by_budget(),
    }


def _is_open(view: FleetView, rollout_id: RolloutId) -> bool:
    try:
        view.terms(rollout_id)
    except KeyError:
        return False
    return True
