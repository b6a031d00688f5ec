"""Reads the calendar of a declaration from TOML: `[[calendar]]`, one table for each window or freeze.

Times may be written as TOML has them (`22:00:00`, `2026-12-23T18:00:00`) or in quotes (`"22:00"`).
Source: docs/spec/holds.md, Calendar.
"""

from datetime import date, datetime, time

from nixfleet_proto.steering.calendar import CalendarKind, Nth, Repeat, Weekday
from nixfleet_release.written.declaration import CalendarDeclaration
from nixfleet_release.written.selectors import read_selector
from nixfleet_runtime.documents.problems import listed, quoted
from nixfleet_runtime.documents.tables import Table


def read_calendar_entry(table: Table) -> CalendarDeclaration:
    """Return the window or freeze in a table."""
    table.require("kind", f"one of {listed(CalendarKind)}")
    return CalendarDeclaration(
        name=table.text("name"),
        kind=table.choice("kind", CalendarKind.DENY),
        zone=table.text("zone"),
        selector=read_selector(table, "selector") if table.has("selector") else None,
        reason=table.optional_text("reason") or "",
        repeat=table.choice("repeat", Repeat.DAILY) if table.has("repeat") else None,
        start=_wall(table, "start"),
        minutes=table.optional_integer("minutes"),
        days=tuple(_days(table)),
        month_day=table.optional_integer("month_day"),
        nth=table.choice("nth", Nth.FIRST) if table.has("nth") else None,
        until=_wall(table, "until"),
        begins=_wall(table, "begins"),
        ends=_wall(table, "ends"),
        minutes_needed=table.optional_integer("minutes_needed"),
    )


def _wall(table: Table, key: str) -> str | None:
    """Return a time on the wall clock, or a date, as text; what has seconds or an offset is not one."""
    if not table.has(key):
        return None
    if table.is_a(str, key):
        return table.text(key).replace(" ", "T")
    value = table.raw(key)
    if isinstance(value, datetime) and value.tzinfo is None and not value.second:
        return f"{value:%Y-%m-%dT%H:%M}"
    if isinstance(value, time) and value.tzinfo is None and not value.second:
        return f"{value:%H:%M}"
    if isinstance(value, date) and not isinstance(value, datetime):
        return f"{value:%Y-%m-%d}"
    table.refuse_value(key, "a time on the clock in the zone, without seconds and offset")
    return None


def _days(table: Table) -> list[Weekday]:
    found: list[Weekday] = []
    for text in table.texts("days"):
        try:
            found.append(Weekday(text))
        except ValueError:
            table.refuse("days", "no such day", listed(Weekday), quoted(text))
    return found
