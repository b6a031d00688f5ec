"""`nixfleet log export`, and what checks a log of which rows were dropped."""

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_runtime.storage.instance_lock import only_process_on
from tests.cli.conftest import Invoke
from tests.engines.story import Story
from tests.retention.test_dropping import LIFE

ALWAYS = ("--before", "9999-01-01T00:00:00Z")


@pytest.fixture(scope="module")
def _lived(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with closing(Story.within(tmp_path_factory.mktemp("lived"))) as story:
        for step in LIFE:
            step(story)
        path = story.control_plane.database
    return path.read_bytes()


@pytest.fixture
def lived(_lived: bytes, tmp_path: Path) -> Path:
    """The database of a control plane of which nearly everything is over."""
    path = tmp_path / "control-plane.db"
    path.write_bytes(_lived)
    return path


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    directory = tmp_path / "exports"
    directory.mkdir()
    return directory


def test_an_export_without_drop_leaves_the_log(
    lived: Path, exports: Path, nixfleet: Invoke
) -> None:
    """The files are named, and the database has every row."""
    before = lived.read_bytes()
    shown = nixfleet("log", "export", lived, exports, *ALWAYS)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("exported the rows 1 to ")
    (file,) = exports.iterdir()
    assert str(file) in shown.stdout
    assert lived.read_bytes() == before
    assert nixfleet("log", "verify", lived).stdout.startswith("the chain holds: ")


def test_a_log_whose_beginning_was_dropped_is_checked_from_there_or_through_the_files(
    lived: Path, exports: Path, nixfleet: Invoke
) -> None:
    """`verify`, `rebuild --check`, `show` and `status` work without the files; with them from the first row on."""
    at = ("--at", "2026-05-28T03:00:00Z")
    status = nixfleet("status", lived, *at).stdout
    whole = json.loads(nixfleet("log", "verify", lived, "--json").stdout)

    dropped = json.loads(
        nixfleet("log", "export", lived, exports, *ALWAYS, "--drop", "--json").stdout
    )

    first = dropped["rows"] + 1
    assert dropped["dropped"] is True
    assert first > 100
    verified = nixfleet("log", "verify", lived)
    assert f"rows {first} to {whole['rows']}, head {whole['headHash']}" in verified.stdout
    through = nixfleet("log", "verify", lived, "--exports", exports)
    assert f"the chain holds: {whole['rows']} rows, head {whole['headHash']}" in through.stdout
    for arguments in ((), ("--exports", exports)):
        assert nixfleet("log", "rebuild", "--check", lived, *arguments).exit_code == 0
    assert nixfleet("log", "show", lived, "--all").stdout.split()[0] == str(first)
    # The last line names the program that dropped.
    *before, rows, begins, needed, _ = nixfleet("status", lived, *at).stdout.splitlines()
    *before_drop, all_rows, needed_before, _ = status.splitlines()
    assert (before, needed) == (before_drop, needed_before)
    assert all_rows.startswith(f"the log has {whole['rows']} rows, from row 1 of 2026-05-16 ")
    left = whole["rows"] - dropped["rows"]
    assert rows.startswith(f"the log has {left} rows, from row {first} of 2026-05-")
    assert needed.startswith(f"the first row that has to stay is {first}, for ")
    assert json.loads(nixfleet("status", lived, "--json").stdout)["log"]["neededBy"] in needed
    assert begins == f"the log begins at row {first}: the rows before were exported and dropped"


def test_a_checkpoint_of_before_is_continued_by_the_files_and_the_log(
    lived: Path, exports: Path, nixfleet: Invoke, tmp_path: Path
) -> None:
    """Without the files the command says which option has the rows."""
    key, signed = tmp_path / "ci.key", tmp_path / "checkpoint.json"
    nixfleet("keys", "new", key)
    make = ("log", "checkpoint", lived, "--key", key, "--signer", "ci", "--to", signed)
    assert nixfleet(*make).exit_code == 0
    assert nixfleet("log", "export", lived, exports, *ALWAYS, "--drop").exit_code == 0

    without = nixfleet(
        "log", "prove", lived, "--checkpoint", signed, "--row", "3", "--to", tmp_path / "p"
    )
    assert without.exit_code == 2
    assert "expected --exports" in without.stderr
    proved = nixfleet(
        *("log", "prove", lived, "--checkpoint", signed, "--row", "3", "--to", tmp_path / "p"),
        *("--exports", exports),
    )
    assert proved.exit_code == 0, proved.output
    again = nixfleet(*make, "--exports", exports)
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize("harm", ["altered", "missing"])
def test_a_file_that_was_altered_or_is_missing_is_found(
    lived: Path, exports: Path, nixfleet: Invoke, harm: str
) -> None:
    """Exit code 1, with the file or the rows that are missing."""
    nixfleet("log", "export", lived, exports, *ALWAYS, "--drop")
    (file,) = exports.iterdir()
    if harm == "missing":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    for command in (["verify"], ["rebuild", "--check"]):
        result = nixfleet("log", *command, lived, "--exports", exports)
        assert result.exit_code == 1
        assert (
            str(file) if harm == "altered" else "expected a file with the rows 1 to"
        ) in result.stderr


def test_nothing_is_dropped_while_the_control_plane_runs(
    lived: Path, exports: Path, nixfleet: Invoke
) -> None:
    """Exporting alone only reads."""
    before = lived.read_bytes()
    with only_process_on(lived):
        refused = nixfleet("log", "export", lived, exports, *ALWAYS, "--drop")
        assert nixfleet("log", "export", lived, exports, *ALWAYS).exit_code == 0
    assert refused.exit_code == 2
    assert "is in use" in refused.stderr
    assert lived.read_bytes() == before


def test_a_log_that_is_young_has_nothing_to_export(
    lived: Path, exports: Path, nixfleet: Invoke
) -> None:
    """Why is said; no file is made."""
    shown = nixfleet("log", "export", lived, exports, "--before", "2026-01-01T00:00:00Z", "--drop")
    assert shown.exit_code == 0
    assert shown.stdout.startswith("nothing to export: ")
    assert list(exports.iterdir()) == []


def test_another_file_under_the_name_of_an_export_is_not_overwritten(
    lived: Path, exports: Path, nixfleet: Invoke
) -> None:
    """It may be the only one with its rows."""
    nixfleet("log", "export", lived, exports, *ALWAYS)
    (file,) = exports.iterdir()
    file.write_bytes(b"another")
    result = nixfleet("log", "export", lived, exports, *ALWAYS, "--drop")
    assert result.exit_code == 1
    assert str(file) in result.stderr
    assert file.read_bytes() == b"another"
    assert nixfleet("log", "verify", lived, "--json").stdout.count('"firstRow":1,') == 1


def test_rows_of_the_last_day_are_never_exported(
    lived: Path, exports: Path, nixfleet: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start looks in them for signed commands that it must not take twice."""
    latest = datetime(2026, 5, 28, 3, tzinfo=UTC)
    monkeypatch.setattr("nixfleet_cli.commands.logs.export.now", lambda: latest)
    shown = nixfleet("log", "export", lived, exports, *ALWAYS)
    assert shown.exit_code == 0, shown.output
    last = int(shown.stdout.split(":")[0].split()[-1])
    with closing(open_for_reading(lived)) as connection:
        query = "SELECT max(ts) FROM event_log WHERE seq <= ?"
        (youngest,) = connection.execute(query, (last,)).fetchone()
    assert youngest < "2026-05-27T03"


def test_the_rows_up_to_the_end_of_a_month_are_exported(
    lived: Path, exports: Path, nixfleet: Invoke
) -> None:
    """The story is of May: nothing is of April or before, and May as a whole goes as far as nothing needs it."""
    april = nixfleet("log", "export", lived, exports, "--month", "2026-04")
    assert april.stdout.startswith("nothing to export: row ")
    may = json.loads(
        nixfleet("log", "export", lived, exports, "--month", "2026-05", "--json").stdout
    )
    june = nixfleet("log", "export", lived, exports, "--before", "2026-06-01", "--json").stdout
    assert may == json.loads(june)
    assert may["rows"] > 100
    assert may["neededBy"]


@pytest.mark.parametrize("month", ["2026-13", "2026", "May", "2026-5", "2026-05-01", ""])
def test_what_is_no_month_is_refused(
    lived: Path, exports: Path, nixfleet: Invoke, month: str
) -> None:
    """With an example of one."""
    refused = nixfleet("log", "export", lived, exports, "--month", month)
    assert refused.exit_code == 2
    assert "expected a " in refused.stderr


def test_a_month_and_a_time_at_once_are_refused(
    lived: Path, exports: Path, nixfleet: Invoke
) -> None:
    """Either says up to where."""
    refused = nixfleet("log", "export", lived, exports, "--month", "2026-05", *ALWAYS)
    assert refused.exit_code == 2
    assert "found both" in refused.stderr
