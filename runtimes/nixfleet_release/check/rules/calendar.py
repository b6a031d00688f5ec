"""Rules about windows and freezes: each entry by itself, then what the entries of a channel leave of its time.

Source: docs/spec/holds.md, Calendar; docs/spec/declarations.md, Validation.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Final

from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import FleetHost, Selector
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind
from nixfleet_release.written.declaration import CalendarDeclaration, FleetDeclaration
from nixfleet_runtime.documents.problems import Problem, at, is_touched, quoted, unknown
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_state_machine.planner.holds.calendar import Span, joined, spans
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
    """Refuse windows that are too short for what hosts need, and freezes that leave a channel no minute of a month."""
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
        yield from _frozen_months(fleet, channel, entries)


def _frozen_months(
    fleet: FleetDeclaration, channel: str, entries: dict[int, CalendarEntry]
) -> Iterator[Problem]:
    hosts = enabled_hosts(fleet.hosts_of(channel), fleet.channels)
    if not hosts:
        return
    denies = [
        (index, entry)
        for index, entry in entries.items()
        if entry.kind is CalendarKind.DENY
        and entry.repeat is not None
        and selects_all(fleet.calendar[index], hosts)
    ]
    if not denies:
        return
    for number in range(_MONTHS):
        begin = _LOOKED_FROM + number * MONTH
        found = sorted(
            (span for _, entry in denies for span in spans_until(entry, begin, begin + MONTH)),
            key=lambda span: span.begins,
        )
        first = next(joined(found, begin + 2 * MONTH), None)
        if first is not None and first.begins <= begin and first.ends >= begin + MONTH:
            names = ", ".join(entry.name for _, entry in denies)
            yield Problem(
                at("calendar", denies[-1][0]),
                f"freezes of channel {channel} leave no minute of a month",
                "a time in each month in which hosts may begin",
                f"{names} from {begin:%Y-%m-%d} to {begin + MONTH:%Y-%m-%d}",
            )
            return


def spans_until(entry: CalendarEntry, begin: datetime, end: datetime) -> Iterator[Span]:
    """Yield the spans of an entry that overlap the time from `begin` to `end`."""
    return takewhile(lambda span: span.begins < end, spans(entry, ZONES, begin))


def selects_all(declared: CalendarDeclaration, hosts: Mapping[str, FleetHost]) -> bool:
    """Return whether an entry selects all of `hosts`."""
    selector = declared.selector
    return selector is None or len(meant(selector.expression, hosts)) == len(hosts)
