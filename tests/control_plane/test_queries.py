"""What operators ask of the database, beside the control plane that writes it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from nixfleet_control_plane.messages.inputs import RetireQuarantine
from nixfleet_control_plane.store.queries import (
    LastCommands,
    Quarantined,
    Waiting,
    deferrals,
    last_commands,
    log_entries,
    open_for_reading,
    quarantines,
    rollouts,
)
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import START
from tests.engines.scripted_host import ScriptedHost


@pytest.fixture
def connection(control_plane: ScriptedControlPlane) -> Iterator[sqlite3.Connection]:
    with closing(open_for_reading(control_plane.database)) as connection:
        yield connection


def test_rollouts_are_listed_oldest_first_with_their_states(
    control_plane: ScriptedControlPlane, connection: sqlite3.Connection
) -> None:
    """Every rollout is listed, those that are over included."""
    control_plane.publish("r9")
    control_plane.publish("r1")

    assert [(record.rollout_id, record.state) for record in rollouts(connection)] == [
        ("stable@r9", RolloutState.SUPERSEDED),
        ("stable@r1", RolloutState.ACTIVE),
    ]


def test_a_pruned_rollout_is_still_listed(
    control_plane: ScriptedControlPlane, connection: sqlite3.Connection
) -> None:
    """A rollout that the control plane has forgotten is in the list of all."""
    control_plane.publish("r1")
    control_plane.publish("r2")
    control_plane.wait(minutes=72 * 60)
    control_plane.tick()

    assert [record.state for record in rollouts(connection)] == [
        RolloutState.PRUNED,
        RolloutState.ACTIVE,
    ]


def test_quarantines_are_listed_with_what_triggered_them(
    control_plane: ScriptedControlPlane, connection: sqlite3.Connection
) -> None:
    """A quarantine names the row of the fact that caused it, and whether it was retired."""
    rollout_id = control_plane.publish("r1")
    ScriptedHost(control_plane, rollout_id, "web-01").revert()
    (before,) = quarantines(connection)
    control_plane.command(RetireQuarantine("stable", "r1-web-01", "ada", "was the disk"))
    (after,) = quarantines(connection)

    seq = before.triggering_event_log_seq
    assert before == Quarantined("stable", "r1-web-01", START, seq, cleared=False)
    assert after == Quarantined("stable", "r1-web-01", START, seq, cleared=True)
    (trigger,) = log_entries(connection, after_seq=seq - 1)[:1]
    assert "RollbackComplete" in str(trigger.entry)


def test_who_waits_is_listed_with_the_reason_and_since_when(
    control_plane: ScriptedControlPlane, connection: sqlite3.Connection
) -> None:
    """A host waits since its reason is what it is, not since the last tick."""
    rollout_id = control_plane.publish("r1")
    control_plane.wait(minutes=5)
    control_plane.tick()

    reason = "wave 1 waits for wave 0"
    assert deferrals(connection) == (
        Waiting("web-02", rollout_id, "wave-promotion", reason, START),
        Waiting("web-03", rollout_id, "wave-promotion", reason, START),
    )


def test_log_entries_are_found_by_rollout_by_host_and_by_number(
    control_plane: ScriptedControlPlane, connection: sqlite3.Connection
) -> None:
    """Each filter leaves the entries it is for, oldest first, and together they leave those of both."""
    first = control_plane.publish("r1")
    ScriptedHost(control_plane, first, "web-01").acknowledge()
    second = control_plane.publish("r2")
    whole = log_entries(connection)

    assert [logged.seq for logged in whole] == list(range(1, len(whole) + 1))
    of_second = log_entries(connection, rollout_id=second)
    assert {logged.entry for logged in of_second} < {logged.entry for logged in whole}
    assert all(second in str(logged.entry) for logged in of_second)
    of_host = log_entries(connection, host_id="web-01")
    assert all("web-01" in str(logged.entry) for logged in of_host)
    both = log_entries(connection, rollout_id=second, host_id="web-01")
    assert set(both) == set(of_second) & set(of_host)
    assert log_entries(connection, after_seq=len(whole) - 1) == whole[-1:]


def test_a_reader_sees_nothing_that_is_not_durable(
    control_plane: ScriptedControlPlane, connection: sqlite3.Connection
) -> None:
    """What the engine has decided and not yet written is not there."""
    control_plane.publish("r1")
    release = control_plane.ci.release(control_plane.layout, "r2", START)
    control_plane.engine.handle(release, START)

    assert [record.rollout_id for record in rollouts(connection)] == ["stable@r1"]


def test_the_last_commands_are_those_of_the_last_rows(
    control_plane: ScriptedControlPlane,
) -> None:
    """Commands are listed with their times, the latest first; where the rows end that were read is said."""
    control_plane.publish("r1")
    control_plane.pause("stable")
    control_plane.wait(minutes=1)
    control_plane.resume("stable")
    minute = timedelta(minutes=1)
    with closing(open_for_reading(control_plane.database)) as connection:
        assert last_commands(connection, 1000) == LastCommands((START + minute, START), None)
        head, paused = connection.execute(
            "SELECT max(seq), min(seq) FILTER (WHERE kind = 'operator_command') FROM event_log"
        ).fetchone()
        assert last_commands(connection, head) == LastCommands((START + minute, START), None)
        assert last_commands(connection, head - paused) == LastCommands((START + minute,), START)
