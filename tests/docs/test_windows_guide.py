"""The recipes of docs/how-to/windows-and-freezes.md: each declares what the page says that it does."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from nixfleet_proto.fleet import Meta
from nixfleet_release.build.resolve import resolve
from nixfleet_release.check.checked import check
from nixfleet_release.check.rules.calendar import ZONES
from nixfleet_state_machine.planner.holds.calendar import freeze_phase, window_phase
from nixfleet_state_machine.planner.holds.groups import CalendarGroup, channel_calendar
from tests.docs.pages import blocks_of

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "windows-and-freezes.md"
RECIPES = [block.text for block in blocks_of(PAGE.read_text("utf-8")) if block.language == "toml"]


def _group(directory: Path, recipe: str, minutes_needed: int = 0) -> CalendarGroup:
    (directory / "fleet.toml").write_text(recipe, encoding="utf-8")
    declared = check(directory / "fleet.toml")
    closures = {name: f"closure-{name}" for name in declared.declaration.hosts}
    meta = Meta(datetime(2026, 5, 16, tzinfo=UTC))
    fleet = resolve(declared, closures, meta, channel_ref="a1b2c3")
    (group,) = channel_calendar(fleet, "stable", minutes_needed).groups
    return group


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "is_closed"),
    [
        ("2026-11-30 20:59", True),
        ("2026-11-30 21:00", False),
        ("2026-12-01 03:29", False),
        # 04:30 in Berlin: 30 minutes before the end.
        ("2026-12-01 03:30", True),
        # A Friday.
        ("2026-12-04 22:00", True),
    ],
)
def test_hosts_of_the_first_recipe_begin_at_night(tmp_path: Path, at: str, is_closed: bool) -> None:
    """From Monday to Thursday, and not in the last half hour."""
    group = _group(tmp_path, RECIPES[0], minutes_needed=30)
    assert window_phase(group.windows, ZONES, _utc(at), 30).is_closed is is_closed


@pytest.mark.parametrize(
    ("at", "is_closed"),
    [
        ("2026-12-23 16:59", False),
        ("2026-12-23 17:00", True),
        ("2027-01-04 04:59", True),
        ("2027-01-04 05:00", False),
    ],
)
def test_the_second_recipe_keeps_the_fleet_still_over_the_holidays(
    tmp_path: Path, at: str, is_closed: bool
) -> None:
    """From 18:00 before to 06:00 after, in Berlin."""
    (freeze,) = _group(tmp_path, RECIPES[1]).freezes
    assert freeze_phase(freeze, ZONES, _utc(at), 0).is_closed is is_closed
