"""Log entries as rows: exact both ways, and what cannot be read is named."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from nixfleet_control_plane.messages.entry_codec import (
    DamagedRow,
    entry_of,
    row_of,
    text_of,
    time_of,
)
from nixfleet_control_plane.messages.inputs import (
    ClearRollout,
    OperatorCommand,
    PauseScope,
    ResumeScope,
    RetireQuarantine,
)
from nixfleet_control_plane.messages.log_entry import Commanded, Entry, LoggedEntry, LogRow
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.holds.scope import ChannelScope, RolloutScope
from tests.engines.releases import START
from tests.engines.story import STEPS, Story

COMMANDS: tuple[OperatorCommand, ...] = (
    PauseScope(ChannelScope("stable"), "ada", "smells odd"),
    ResumeScope(RolloutScope(RolloutId("stable@r1")), "ada", "“fine”\n"),
    ClearRollout(RolloutId("stable@r1"), "ada", "", frozenset({"web-02", "web-01"})),
    RetireQuarantine("stable", "k2f-nixos", "ada", "was the disk"),
)
PAUSE = row_of(7, START, Commanded(COMMANDS[0]))
REPORT = PAUSE._replace(
    kind="agent_events", host_id="web-01", rollout_id="stable@r1", first_fact_seq=1, fact_count=1
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_a_command_comes_back_as_it_was(command: OperatorCommand) -> None:
    """A row of a command says all that the command said."""
    logged = LoggedEntry(1, START, Commanded(command))

    assert entry_of(row_of(logged.seq, logged.at, logged.entry)) == logged


def test_every_entry_of_a_life_comes_back_as_it_was(story: Story) -> None:
    """Whatever happens to a control plane, its rows say exactly that, and have the same bytes again."""
    for step in STEPS:
        step(story)
    for row in story.control_plane.rows():
        logged = entry_of(row)
        assert row_of(logged.seq, logged.at, logged.entry) == row


def test_hosts_of_a_clearance_are_written_in_order() -> None:
    """A set is written in one order, so that equal commands are equal rows."""
    assert '"excused_hosts":["web-01","web-02"]' in _row(Commanded(COMMANDS[2])).payload


@pytest.mark.parametrize(
    ("command", "rollout_id"),
    list(zip(COMMANDS, (None, "stable@r1", "stable@r1", None), strict=True)),
    ids=lambda each: type(each).__name__,
)
def test_a_command_for_a_rollout_has_it_in_its_column(
    command: OperatorCommand, rollout_id: str | None
) -> None:
    """The commands for a rollout are found by it; those for a channel have none."""
    assert _row(Commanded(command)).rollout_id == rollout_id


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            PAUSE._replace(kind="effect"),
            "expected a kind that this version writes, found 'effect'",
        ),
        (PAUSE._replace(payload="{}"), "'kind'"),
        (PAUSE._replace(payload='{"kind":"Pause"}'), "'Pause'"),
        (PAUSE._replace(ts="yesterday"), "Invalid isoformat string: 'yesterday'"),
        (PAUSE._replace(kind="agent_event"), "expected a host and a rollout"),
        (REPORT._replace(payload="[]"), "expected an object, found []"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(row: LogRow, problem: str) -> None:
    """What is wrong with a row is told with its number and its kind."""
    with pytest.raises(DamagedRow) as damage:
        entry_of(row)

    assert (damage.value.seq, damage.value.kind) == (7, row.kind)
    assert problem in damage.value.problem


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (START, "2026-05-16T01:00:00.000000Z"),
        (START + timedelta(microseconds=7), "2026-05-16T01:00:00.000007Z"),
        (datetime(999, 1, 2, tzinfo=UTC), "0999-01-02T00:00:00.000000Z"),
        (
            datetime(2026, 5, 16, 3, tzinfo=timezone(timedelta(hours=2))),
            "2026-05-16T01:00:00.000000Z",
        ),
    ],
)
def test_a_time_is_text_of_one_width_in_utc(at: datetime, text: str) -> None:
    """Times of tables sort and compare as they are, in any year."""
    assert text_of(at) == text
    assert time_of(text) == at


def _row(entry: Entry) -> LogRow:
    return row_of(7, START, entry)
