"""Rows that nothing needs are exported and dropped, and everything goes on as if they were there."""

import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from nixfleet_control_plane.history.follower import Follower
from nixfleet_control_plane.history.rebuild import DERIVED_VIEWS, check_chain, check_views
from nixfleet_control_plane.history.retention.dropping import drop, export
from nixfleet_control_plane.history.retention.export_file import (
    ExportAltered,
    ExportMissing,
    exported_rows,
    write_export,
)
from nixfleet_control_plane.history.retention.exportable import Exportable, exportable
from nixfleet_control_plane.history.retention.log_start import log_start
from nixfleet_control_plane.history.retention.whole_log import RowsDropped
from nixfleet_control_plane.messages.inputs import RetireQuarantine
from nixfleet_control_plane.messages.log_entry import LogRow, chain_hash
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_proto.enrollment import Revocation
from nixfleet_runtime.storage.writer import open_writer
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import Layout
from tests.engines.scripted_host import ScriptedHost
from tests.engines.story import LATE, RETENTION_MINUTES, STEPS, Step, Story
from tests.retention.whole_log import dropped_rows, whole_hashes, whole_log
from tests.upgrades.killing import killed_at

ALL = datetime(9999, 1, 1).astimezone()
"""No row is younger: what is needed alone decides."""


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    directory = tmp_path / "exports"
    directory.mkdir()
    return directory


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    with closing(Story.within(tmp_path)) as story:
        yield story


def _release_late(story: Story) -> None:
    control_plane = story.control_plane
    control_plane.publish("r2", LATE)
    for hostname in ("db-01", "db-02"):
        story.host("late@r2", hostname).finish()
    control_plane.publish_lists(revoked=(Revocation("web-02", control_plane.now, "stolen"),))


def _retire(story: Story) -> None:
    story.control_plane.command(RetireQuarantine("stable", "r3-web-01", "ada", "was the disk"))


def _release_again(story: Story) -> None:
    story.control_plane.publish("r6")
    story.control_plane.publish("r3", LATE)


def _wait(story: Story) -> None:
    story.control_plane.wait(minutes=RETENTION_MINUTES)
    story.control_plane.tick()


LIFE: tuple[Step, ...] = (*STEPS, _release_late, _retire, _wait, _release_again, _wait, _wait)
"""The story, until only the last release of each channel is left, and nothing of what came before is outstanding."""


@pytest.fixture
def lived(story: Story) -> Story:
    """A control plane at the end of its life."""
    for step in LIFE:
        step(story)
    return story


def _export(database: Path, exports: Path) -> Exportable:
    with closing(open_for_reading(database)) as connection:
        span = exportable(connection, ALL)
        export(connection, exports, span)
    return span


def _drop(database: Path, exports: Path) -> Exportable:
    span = _export(database, exports)
    if span.rows:
        with closing(open_writer(database, DATABASE_FORMAT)) as writer:
            drop(writer, span)
    return span


def _rows(database: Path) -> list[LogRow]:
    with closing(open_for_reading(database)) as connection:
        return list(read_log(connection))


def _views(database: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(open_for_reading(database)) as connection:
        return {
            table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr)
            for table in DERIVED_VIEWS
        }


def test_a_log_of_which_rows_are_dropped_is_whole_through_its_files(
    lived: Story, exports: Path
) -> None:
    """Chain, hashes and rows are those of before; the views are as they were, and equal what the rest gives."""
    database = lived.control_plane.database
    rows, views = _rows(database), _views(database)
    with closing(open_for_reading(database)) as connection:
        hashes = tuple(whole_hashes(connection))
    lived.close()

    span = _drop(database, exports)

    assert span.first_seq == 1
    assert span.rows > 100
    assert _rows(database) == rows[span.last_seq :]
    assert _views(database) == views
    with closing(open_for_reading(database)) as connection:
        assert list(whole_log(connection, exports)) == rows
        assert tuple(whole_hashes(connection, exports)) == hashes
        chain = check_chain(connection)
        assert (chain.problem, chain.first_seq, chain.rows) == (None, span.last_seq + 1, len(rows))
        assert check_views(connection).differences == ()
        assert check_views(connection, dropped_rows(connection, exports)).differences == ()
        followed = Follower(connection).read_all()
    lived.control_plane.start_control_plane()
    assert dict(followed.view.rollouts) == dict(lived.control_plane.state.view.rollouts)


def test_a_life_in_which_rows_are_dropped_after_each_step_is_the_same_life(
    story: Story, exports: Path, tmp_path: Path
) -> None:
    """The control plane restarts after each drop, and at the end has the same log and the same views."""
    dropped = 0
    for step in LIFE:
        step(story)
        control_plane = story.control_plane
        control_plane.store.close()
        dropped += _drop(control_plane.database, exports).rows
        control_plane.start_control_plane()
        assert control_plane.state.left_out == ()
        assert control_plane.check_store().differences == ()
    assert dropped > 100
    assert len(list(exports.iterdir())) > 3
    with closing(open_for_reading(story.control_plane.database)) as connection:
        assert check_views(connection, dropped_rows(connection, exports)).differences == ()


def test_a_start_that_has_no_cache_reads_what_is_left_of_the_log(
    lived: Story, exports: Path
) -> None:
    """Rollouts that are not pruned were opened in it, so their hosts' records follow from it."""
    control_plane = lived.control_plane
    before = (
        dict(control_plane.state.view.rollouts),
        {
            rollout_id: control_plane.states(rollout_id)
            for rollout_id in control_plane.state.view.open_rollouts
        },
    )
    lived.close()
    assert _drop(control_plane.database, exports).rows
    with closing(sqlite3.connect(control_plane.database)) as connection:
        connection.execute("DELETE FROM host_rollout_records")
        connection.execute("UPDATE host_records_through SET event_log_seq = 1000000")
        connection.commit()

    control_plane.start_control_plane()

    assert before == (
        dict(control_plane.state.view.rollouts),
        {
            rollout_id: control_plane.states(rollout_id)
            for rollout_id in control_plane.state.view.open_rollouts
        },
    )


def test_what_something_live_needs_is_not_exported(story: Story) -> None:
    """At each step of the story, the first row that is kept is no younger than what any view names."""
    queries = (
        "SELECT opened_event_log_seq FROM rollouts WHERE state != 'Pruned'",
        "SELECT event_log_seq FROM artefacts",
        "SELECT event_log_seq FROM holds",
        "SELECT event_log_seq FROM warrants",
        "SELECT event_log_seq FROM probe_failures JOIN rollouts USING (rollout_id)"
        " WHERE cleared_by_seq IS NULL AND state != 'Pruned'",
        "SELECT triggering_event_log_seq FROM quarantined_closures WHERE cleared_by_seq IS NULL",
        "SELECT event_log_seq FROM dispatch_queue",
    )
    for step in LIFE:
        step(story)
        with closing(open_for_reading(story.control_plane.database)) as connection:
            last = exportable(connection, ALL).last_seq
            for query in queries:
                assert all(seq > last for (seq,) in connection.execute(query)), query


def test_rows_that_are_young_are_not_exported(lived: Story) -> None:
    """By the time of each row, whatever the order of times is."""
    database = lived.control_plane.database
    with closing(open_for_reading(database)) as connection:
        everything = exportable(connection, ALL)
        middle = _rows(database)[everything.last_seq // 2]
        before = datetime.fromisoformat(middle.ts)
        span = exportable(connection, before)
        assert 0 < span.rows < everything.rows
        assert all(row.ts < middle.ts for row in _rows(database)[: span.last_seq])
        assert exportable(connection, before - timedelta(days=3650)).rows == 0


def test_an_export_that_is_repeated_writes_the_same_files(lived: Story, exports: Path) -> None:
    """Byte for byte, so that it can be archived by its hash."""
    database = lived.control_plane.database
    _export(database, exports)
    first = {path.name: path.read_bytes() for path in exports.iterdir()}
    _export(database, exports)
    assert {path.name: path.read_bytes() for path in exports.iterdir()} == first
    assert all(name.endswith(".jsonl.gz") for name in first)


def _contents(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {name for (name,) in connection.execute("SELECT hash FROM contents")}


def test_contents_of_dropped_rows_go_with_them_and_others_stay(
    tmp_path: Path, exports: Path
) -> None:
    """What an artefact in force shares with one that was dropped stays; each file has all that its rows refer to."""
    layout = Layout(waves=(tuple(f"web-{number:03}" for number in range(40)),), edges=())
    with closing(ScriptedControlPlane(tmp_path, layout)) as control_plane:
        database = control_plane.database
        for ref in ("r1", "r2", "r2", "r2"):
            rollout_id = control_plane.publish(ref)
            for host in layout.hosts:
                if control_plane.dispatch_of(host) is not None:
                    ScriptedHost(control_plane, rollout_id, host).finish()
            control_plane.wait(minutes=RETENTION_MINUTES)
            control_plane.tick()
    before, rows = _contents(database), _rows(database)
    span = _drop(database, exports)
    dropped = {row.seq: row for row in rows if row.kind == "artefact_accepted"}.keys()
    assert [seq <= span.last_seq for seq in sorted(dropped)] == [True] * 6 + [False] * 2
    assert set() < _contents(database) < before
    with closing(open_for_reading(database)) as connection:
        assert list(whole_log(connection, exports)) == rows
        assert check_views(connection).differences == ()
    (file,) = exports.iterdir()
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    carried = [name for line in lines[1:] if isinstance(line, dict) for name in line]
    assert sorted(carried) == sorted(before)


def test_a_file_of_before_there_were_contents_is_read(story: Story, exports: Path) -> None:
    """Its rows have their artefacts in them; the next file goes on from it."""
    for step in STEPS[:20]:
        step(story)
    rows = _rows(story.control_plane.database)
    head, lines = bytes(32), list[str]()
    for row in rows[:50]:
        head = chain_hash(head, row)
        lines.append(json.dumps([*row, head.hex()]))
    header = {
        "format": "nixfleet-log-1",
        "firstSeq": 1,
        "lastSeq": 50,
        "prevHash": bytes(32).hex(),
        "headHash": head.hex(),
        "columns": [*LogRow._fields, "hash"],
    }
    file = exports / "log-000000000001-000000000050.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join([json.dumps(header), *lines, ""]).encode()))
    write_export(exports, head, rows[50:-1])
    assert list(exported_rows(exports, *_head(story))) == rows[:-1]


def test_rows_that_were_dropped_are_asked_for_by_name(lived: Story, exports: Path) -> None:
    """Whoever needs the whole log is told where it begins, and which option has the rest."""
    database = lived.control_plane.database
    lived.close()
    span = _drop(database, exports)
    with (
        closing(open_for_reading(database)) as connection,
        pytest.raises(RowsDropped, match=f"begins at row {span.last_seq + 1}: expected --exports"),
    ):
        list(whole_log(connection))


@pytest.fixture
def files(story: Story, exports: Path) -> tuple[Path, ...]:
    """Three files that lead to a log."""
    for step in STEPS[:20]:
        step(story)
    with closing(open_for_reading(story.control_plane.database)) as connection:
        last = len(_rows(story.control_plane.database)) - 1
        bounds = [1, last // 3, 2 * last // 3, last + 1]
        hashes = (bytes(32), *whole_hashes(connection))
        rows = list(read_log(connection))
        return tuple(
            write_export(exports, hashes[begin - 1], rows[begin - 1 : end - 1])
            for begin, end in pairwise(bounds)
        )


def _head(story: Story) -> tuple[int, bytes]:
    """Return the last row's number, and the hash of the row before it, which the files lead to."""
    with closing(open_for_reading(story.control_plane.database)) as connection:
        hashes = tuple(whole_hashes(connection))
    return len(hashes), hashes[-2]


def test_files_in_order_are_the_rows_before_the_log(
    story: Story, files: tuple[Path, ...], exports: Path
) -> None:
    """All of them, and none twice, also where an export was repeated with other bounds."""
    rows = _rows(story.control_plane.database)
    write_export(exports, bytes(32), rows[: len(rows) // 2])
    assert list(exported_rows(exports, *_head(story))) == rows[:-1]
    assert len(files) == 3


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_file_that_is_missing_is_named_by_its_rows(
    story: Story, files: tuple[Path, ...], exports: Path, number: int
) -> None:
    """The first, one in the middle, and the last."""
    files[number].unlink()
    first = int(files[number].name.split("-")[1])
    with pytest.raises(ExportMissing, match=f"expected a file with the rows {first} to "):
        list(exported_rows(exports, *_head(story)))


def test_a_byte_that_was_changed_anywhere_is_found(
    story: Story, files: tuple[Path, ...], exports: Path
) -> None:
    """In the compressed file and in what was compressed, the header included: each is the file's own error."""
    target = files[1]
    whole = target.read_bytes()
    text = gzip.decompress(whole)
    altered = [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(10, len(whole), 97)
    ]
    altered += [
        gzip.compress(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
        for at in range(0, len(text), 211)
    ]
    altered += [whole[: len(whole) // 2], b"", gzip.compress(b""), gzip.compress(text[:-500])]
    for content in altered:
        target.write_bytes(content)
        with pytest.raises(ExportAltered, match=target.name):
            list(exported_rows(exports, *_head(story)))


def test_a_file_of_another_log_does_not_lead_to_this_one(
    story: Story, files: tuple[Path, ...], exports: Path
) -> None:
    """Its rows have good hashes, but do not continue the file before it, or are not continued by the log."""
    rows = _rows(story.control_plane.database)
    forged = [
        rows[0]._replace(ts="2026-05-16T00:00:00.000000Z"),
        *rows[1 : (len(rows) - 1) // 3 - 1],
    ]
    files[0].unlink()
    write_export(exports, bytes(32), forged)
    with pytest.raises(ExportAltered, match="expected it to follow"):
        list(exported_rows(exports, *_head(story)))


def test_a_file_that_was_left_half_written_is_no_file(
    story: Story, files: tuple[Path, ...], exports: Path
) -> None:
    """A process that is killed while it writes leaves a name that is not read, and the next export succeeds."""
    content = files[1].read_bytes()
    files[1].rename(exports / ".log.partial")
    with pytest.raises(ExportMissing):
        list(exported_rows(exports, *_head(story)))
    rows = _rows(story.control_plane.database)
    first, last = map(int, files[1].name.removesuffix(".jsonl.gz").split("-")[1:])
    with closing(open_for_reading(story.control_plane.database)) as connection:
        hashes = tuple(whole_hashes(connection))
    write_export(exports, hashes[first - 2], rows[first - 1 : last])
    assert files[1].read_bytes() == content


def test_a_process_that_is_killed_at_any_statement_of_a_drop_loses_nothing(
    lived: Story, exports: Path, tmp_path: Path
) -> None:
    """Either all rows are there, or they are in the files and the log begins after them."""
    database = lived.control_plane.database
    lived.close()
    span = _export(database, exports)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content, rows = database.read_bytes(), _rows(database)
    starts = set[int]()
    for number in range(1, 2000, 40):
        path = tmp_path / f"at-{number}.sqlite"
        path.write_bytes(content)

        def dropping(path: Path = path) -> None:
            with closing(open_writer(path, DATABASE_FORMAT)) as writer:
                drop(writer, span)

        was_killed = killed_at(number, dropping)
        with closing(open_for_reading(path)) as connection:
            starts.add(log_start(connection).first_seq)
            assert list(whole_log(connection, exports)) == rows
            assert check_views(connection).differences == ()
        if not was_killed:
            break
    assert starts == {1, span.last_seq + 1}


def test_a_log_that_is_exported_regularly_does_not_grow(tmp_path: Path, exports: Path) -> None:
    """Half a year of weekly releases: the rows that are left are those of the last ones, whatever came before."""
    control_plane = ScriptedControlPlane(tmp_path, Layout(waves=(("web-01", "web-02"),), edges=()))
    left: list[int] = []
    sizes: list[int] = []
    for week in range(26):
        rollout_id = control_plane.publish(f"r{week}")
        for hostname in ("web-01", "web-02"):
            ScriptedHost(control_plane, rollout_id, hostname).finish()
        control_plane.wait(minutes=7 * 24 * 60)
        control_plane.tick()
        control_plane.store.close()
        _drop(control_plane.database, exports)
        left.append(len(_rows(control_plane.database)))
        sizes.append(control_plane.database.stat().st_size)
        control_plane.start_control_plane()
    control_plane.close()
    assert max(left[4:]) == max(left[2:4])
    # A row of each rollout that is over stays, with its id.
    assert sizes[-1] < sizes[4] + 26 * 4096
    with closing(open_for_reading(control_plane.database)) as connection:
        assert len(list(whole_log(connection, exports))) > 10 * left[-1]
