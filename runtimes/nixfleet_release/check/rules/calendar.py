"""Rules about windows and freezes: each entry by itself, then what the entries of a channel leave of its time.

Source: docs/spec/holds.md, Calendar; docs/spec/declarations.md, Validation.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import takewhile
from typing import Final

from attrs import frozen

from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import Selector
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind, wall_time
from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import Problem, at, is_touched, listed, quoted, unknown
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_state_machine.planner.holds.calendar import Span, instant, joined, spans
from nixfleet_state_machine.scopes.expression import meant
from nixfleet_state_machine.scopes.selector import enabled_hosts

ZONES: Final = SystemZones()
MONTH: Final = timedelta(days=31)
_EVERYBODY: Final = Selector(all=True)
# Rules that repeat are looked at over a year in which each comes; which year makes no difference.
_LOOKED_FROM: Final = datetime(2027, 1, 1, tzinfo=UTC)
_MONTHS: Final = 12


def statements(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse entries that contradict themselves, unknown zones, and names that are used twice."""
    names = Counter(entry.name for entry in fleet.calendar)
    for index, declared in enumerate(fleet.calendar):
        path = at("calendar", index)
        if names[declared.name] > 1 and declared.name:
            yield Problem(
                at(path, "name"), "used twice", "a name of its own", quoted(declared.name)
            )
        if declared.zone not in ZONES:
            yield unknown(at(path, "zone"), "time zone", declared.zone, ZONES)
        try:
            declared.entry(_EVERYBODY)
        except InvalidValue as error:
            for problem in error.problems:
                yield Problem(
                    at(path, problem.path), "not valid here", problem.expected, problem.found
                )


def members(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse entries that select no host."""
    for index, declared in enumerate(fleet.calendar):
        path = at(at("calendar", index), "selector")
        if declared.selector is None or is_touched(path, broken):
            continue
        if not meant(declared.selector.expression, fleet.hosts):
            yield Problem(path, "selects no host", "at least one host", "none")


def openings(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse windows in which no host may begin, and freezes that leave hosts no minute of a month."""
    entries = {
        index: declared.entry(_EVERYBODY)
        for index, declared in enumerate(fleet.calendar)
        if not is_touched(at("calendar", index), broken)
    }
    for index, entry in entries.items():
        needed = entry.minutes_needed
        lasts = entry.minutes
        if entry.kind is CalendarKind.ALLOW and needed and lasts and needed >= lasts:
            yield Problem(
                at(at("calendar", index), "minutes_needed"),
                "leaves no minute of the window to begin in",
                f"less than {lasts}, the minutes of the window",
                str(needed),
            )
    for channel in sorted(fleet.channels):
        yield from _of_channel(fleet, channel, entries, broken)


def _of_channel(
    fleet: FleetDeclaration,
    channel: str,
    entries: Mapping[int, CalendarEntry],
    broken: Collection[str],
) -> Iterator[Problem]:
    """Yield the problems of the groups of a channel, each place once: of the first group that has one there."""
    policy = fleet.channels[channel].rollout_policy
    stage = at(at("policies", policy), "deadlines")
    is_known = policy in fleet.policies and not is_touched(stage, broken)
    activation = fleet.policies[policy].deadlines.activation if is_known else None
    reported: set[str] = set()
    for group in groups_of(fleet, channel, entries):
        own = {index: entries[index] for index in group.entries}
        problems = [*_frozen_months(group, own)]
        if activation is not None:
            problems += _short_windows(group, own, activation.minutes, policy)
        for problem in problems:
            if problem.path not in reported:
                yield problem
        reported |= {problem.path for problem in problems}


@frozen
class Group:
    """Hosts of a channel that the same entries select. entries: their places. who: in words."""

    who: str
    entries: tuple[int, ...]


def groups_of(fleet: FleetDeclaration, channel: str, entries: Collection[int]) -> tuple[Group, ...]:
    """Return the groups of the enabled hosts of a channel, of those `entries` that select any of them."""
    hosts = enabled_hosts(fleet.hosts_of(channel), fleet.channels)
    selected = {
        index: set(hosts) if declared is None else set(meant(declared.expression, hosts))
        for index in sorted(entries)
        for declared in (fleet.calendar[index].selector,)
    }
    members: dict[tuple[int, ...], list[str]] = {}
    for host in sorted(hosts):
        own = tuple(index for index, names in selected.items() if host in names)
        members.setdefault(own, []).append(host)
    return tuple(
        Group(_who(channel, names, len(hosts)), own)
        for own, names in sorted(members.items())
        if own
    )


def _who(channel: str, names: Collection[str], total: int) -> str:
    return f"channel {channel}" if len(names) == total else f"{listed(names)} of channel {channel}"


def _short_windows(
    group: Group, entries: Mapping[int, CalendarEntry], needed: int, policy: str
) -> Iterator[Problem]:
    """Yield the windows without `minutes_needed` of which every one is over before a host could be done."""
    windows = {it: entry for it, entry in entries.items() if entry.kind is CalendarKind.ALLOW}
    for index, entry in windows.items():
        if entry.minutes_needed is not None:
            continue
        begin, end = _looked_at(entry)
        others = (spans_until(it, begin - MONTH, end + MONTH) for it in windows.values())
        open_times = tuple(joined(merge(*others, key=_begins), end + 2 * MONTH))
        own = tuple(spans_until(entry, begin, end))
        longest = max(
            (
                whole.ends - whole.begins
                for whole in open_times
                for span in own
                if whole.begins <= span.begins and span.ends <= whole.ends
            ),
            default=None,
        )
        if longest is not None and longest <= timedelta(minutes=needed):
            path = at("calendar", index)
            yield Problem(
                path if entry.minutes is None else at(path, "minutes"),
                f"leaves {group.who} no minute to begin in: a host needs the activation deadline of its policy",
                f"more than {needed}, deadlines.activation.minutes of policy {policy}; or minutes_needed",
                str(longest // timedelta(minutes=1)),
            )


def _looked_at(entry: CalendarEntry) -> tuple[datetime, datetime]:
    """Return a time in which an entry that repeats comes several times, and one that does not comes once."""
    begins = wall_time(entry.begins)
    if begins is None:
        return _LOOKED_FROM, _LOOKED_FROM + 2 * MONTH
    return instant(begins, ZONES[entry.zone]) - MONTH, instant(begins, ZONES[entry.zone]) + MONTH


def _frozen_months(group: Group, entries: Mapping[int, CalendarEntry]) -> Iterator[Problem]:
    denies = [
        (index, entry)
        for index, entry in entries.items()
        if entry.kind is CalendarKind.DENY and entry.repeat is not None
    ]
    if not denies:
        return
    for number in range(_MONTHS):
        begin = _LOOKED_FROM + number * MONTH
        found = merge(
            *(spans_until(entry, begin, begin + MONTH) for _, entry in denies), key=_begins
        )
        first = next(joined(found, begin + 2 * MONTH), None)
        if first is not None and first.begins <= begin and first.ends >= begin + MONTH:
            names = ", ".join(entry.name for _, entry in denies)
            yield Problem(
                at("calendar", denies[-1][0]),
                f"freezes of {group.who} leave no minute of a month",
                "a time in each month in which hosts may begin",
                f"{names} from {begin:%Y-%m-%d} to {begin + MONTH:%Y-%m-%d}",
            )
            return


def _begins(span: Span) -> datetime:
    return span.begins


def spans_until(entry: CalendarEntry, begin: datetime, end: datetime) -> Iterator[Span]:
    """Yield the spans of an entry that overlap the time from `begin` to `end`."""
    return takewhile(lambda span: span.begins < end, spans(entry, ZONES, begin))
