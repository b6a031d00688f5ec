"""`nixfleet log verify` and `nixfleet log rebuild --check`: what they find, and that they find it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.engines.small_fleet import SmallFleet


def _tamper(database: Path, *statements: str) -> None:
    """Do what no program of ours would, with the guards taken down."""
    guards = [f"DROP TRIGGER event_log_is_append_only_{each}" for each in ("update", "delete")]
    with closing(sqlite3.connect(database)) as connection:
        for statement in ("PRAGMA foreign_keys=OFF", *guards, *statements):
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize("command", [("verify",), ("rebuild", "--check")])
def test_an_untouched_log_is_in_order(
    command: tuple[str, ...], nixfleet: Invoke, fleet: SmallFleet
) -> None:
    """An untouched database passes, while its control plane has it open."""
    checked = nixfleet("log", *command, fleet.database)

    assert checked.exit_code == 0, checked.output
    assert str(fleet.state.head_seq) in checked.stdout


def test_head_is_told_so_that_a_cut_off_end_can_be_noticed(
    nixfleet: Invoke, fleet: SmallFleet
) -> None:
    """`verify` prints the last row's hash, which changes with the log."""
    before = nixfleet("log", "verify", fleet.database).stdout
    fleet.publish("r3")
    after = nixfleet("log", "verify", fleet.database).stdout

    assert before.split("head ")[1] != after.split("head ")[1]


def test_an_altered_row_breaks_the_chain_where_it_stands(nixfleet: Invoke, database: Path) -> None:
    """`verify` names the first row that was altered."""
    _tamper(database, "UPDATE event_log SET ts = '2020-01-01T00:00:00.000000Z' WHERE seq = 7")

    verified = nixfleet("log", "verify", database)

    assert verified.exit_code == 1
    assert "the chain breaks at row 7: expected hash " in verified.stderr
    assert verified.stderr.endswith("the row was altered\n")


def test_a_missing_row_is_named_by_all_who_read_it(nixfleet: Invoke, database: Path) -> None:
    """`verify` names the row that is missing; who tells the log stops there instead of telling nonsense."""
    _tamper(database, "DELETE FROM event_log WHERE seq = 7")

    verified = nixfleet("log", "verify", database)
    shown = nixfleet("log", "show", database, "--all")

    assert verified.exit_code == 1
    assert "breaks at row 7: expected row 7, found row 8: rows are missing" in verified.stderr
    assert shown.exit_code == 1
    assert len(shown.stdout.splitlines()) == 6
    assert "event_log row 8 " in shown.stderr
    assert "expected row 7 here" in shown.stderr


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("DELETE FROM quarantined_closures", "quarantined_closures, in the log, but not stored"),
        ("UPDATE rollouts SET state = 'Terminal'", "rollouts, stored, but not in the log"),
    ],
)
def test_a_view_that_differs_from_the_log_is_shown(
    statement: str, where: str, nixfleet: Invoke, database: Path
) -> None:
    """A view that was changed behind the log's back is found by `rebuild`, and not by `verify`."""
    _tamper(database, statement)

    rebuilt = nixfleet("log", "rebuild", "--check", database)

    assert rebuilt.exit_code == 1
    assert where in rebuilt.stderr
    assert nixfleet("log", "verify", database).exit_code == 0


def test_many_differences_are_cut_short(nixfleet: Invoke, database: Path) -> None:
    """Of many differing rows twenty are shown and all are counted; JSON has all."""
    row = "'stable', 'closure-' || value, '2026-05-16T01:00:00.000000Z', 1, NULL"
    many = "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT 30)"
    _tamper(database, f"INSERT INTO quarantined_closures {many} SELECT {row} FROM n")

    rebuilt = nixfleet("log", "rebuild", "--check", database)
    as_json = nixfleet("log", "rebuild", "--check", database, "--json")

    assert "30 row(s) of the views differ" in rebuilt.stderr
    assert len(rebuilt.stderr.splitlines()) == 1 + 20 + 1
    assert rebuilt.stderr.endswith("and 10 more; --json has all\n")
    assert len(json.loads(as_json.stdout)["error"]["details"]) == 30


def test_rebuild_without_check_is_refused(nixfleet: Invoke, database: Path) -> None:
    """Nobody is led to believe that something was rebuilt in place."""
    refused = nixfleet("log", "rebuild", database)

    assert refused.exit_code == 2
    assert "--check" in refused.stderr
