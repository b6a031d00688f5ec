"""Which hosts of a channel a calendar holds together: those that the same entries select. Pure.

A host's group is all that the gates read of a calendar, so that an edge costs one hold and no walk over the hosts.
Source: docs/spec/holds.md, Calendar.
"""

from collections.abc import Mapping

from attrs import frozen

from nixfleet_proto.fleet import FleetHost, FleetResolved
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind
from nixfleet_state_machine.planner.holds.scope import ChannelScope, GroupScope, HoldScope
from nixfleet_state_machine.scopes.selector import matches, select


@frozen
class CalendarGroup:
    """The entries that apply to all hosts of `scope`, in the order in which they were declared.

    minutes_needed: for entries that say nothing themselves.
    """

    scope: HoldScope
    entries: tuple[CalendarEntry, ...]
    minutes_needed: int = 0

    @property
    def freezes(self) -> tuple[CalendarEntry, ...]:
        """The entries that deny."""
        return tuple(each for each in self.entries if each.kind is CalendarKind.DENY)

    @property
    def windows(self) -> tuple[CalendarEntry, ...]:
        """The entries that allow."""
        return tuple(each for each in self.entries if each.kind is CalendarKind.ALLOW)


@frozen
class ChannelCalendar:
    """The groups of a channel. group_of: of each host that is in one; empty if all hosts have the same entries."""

    groups: tuple[CalendarGroup, ...] = ()
    group_of: FrozenMap[str, str] = FrozenMap[str, str]()


def channel_calendar(fleet: FleetResolved, channel: str, minutes_needed: int) -> ChannelCalendar:
    """Return how the calendar of `fleet` holds the hosts of `channel`."""
    hosts = {name: host for name, host in fleet.hosts.items() if host.channel == channel}
    selected = _entries_of(fleet.calendar, hosts)
    distinct = set(selected.values())
    if distinct == {()} or not distinct:
        return ChannelCalendar()
    if len(distinct) == 1:
        (entries,) = distinct
        return ChannelCalendar((CalendarGroup(ChannelScope(channel), entries, minutes_needed),))
    groups = tuple(
        CalendarGroup(GroupScope(channel, _name(entries)), entries, minutes_needed)
        for entries in sorted(distinct - {()}, key=_name)
    )
    return ChannelCalendar(
        groups, FrozenMap({host: _name(entries) for host, entries in selected.items() if entries})
    )


def _entries_of(
    calendar: tuple[CalendarEntry, ...], hosts: Mapping[str, FleetHost]
) -> dict[str, tuple[CalendarEntry, ...]]:
    """Return the entries that select each host. Selectors without names are asked once for hosts with equal tags."""
    by_name = [entry for entry in calendar if entry.selector.hosts]
    named: dict[str, set[str]] = {}
    for entry in by_name:
        for hostname in select(entry.selector, hosts):
            named.setdefault(hostname, set()).add(entry.name)
    known: dict[tuple[tuple[str, ...], frozenset[str]], tuple[CalendarEntry, ...]] = {}
    found: dict[str, tuple[CalendarEntry, ...]] = {}
    for hostname, host in hosts.items():
        own = frozenset(named.get(hostname, ()))
        key = host.tags, own
        if key not in known:
            known[key] = tuple(
                entry
                for entry in calendar
                if entry.name in own
                or (not entry.selector.hosts and matches(entry.selector, hostname, host))
            )
        found[hostname] = known[key]
    return found


def _name(entries: tuple[CalendarEntry, ...]) -> str:
    return "+".join(sorted(entry.name for entry in entries))
