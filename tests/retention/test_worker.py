"""A running control plane exports whole months and drops them, whatever goes wrong on the way."""

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import datetime, time, timedelta
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx2
import pytest

from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.history.rebuild import check_chain, check_views
from nixfleet_control_plane.history.retention.dropping import (
    StartDiffers,
    remove_dropped,
    remove_unreferred,
    unreferred,
)
from nixfleet_control_plane.history.retention.exportable import exportable
from nixfleet_control_plane.history.retention.keeper import (
    Exported,
    SqliteLogKeeper,
    export_months,
)
from nixfleet_control_plane.history.retention.log_start import log_start
from nixfleet_control_plane.history.retention.worker import (
    RetentionConfig,
    RetentionWorker,
    seconds_until,
)
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_proto.codec import format_time
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.process.own_process import WorkFailed
from tests.engines.releases import Publisher
from tests.retention.half_a_year import END, MONTHS, live_half_a_year
from tests.retention.whole_log import dropped_rows, whole_log
from tests.support.control_plane_process import Premises

pytestmark = pytest.mark.anyio
CI = Publisher()
WITHIN_SECONDS = 30


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return live_half_a_year(tmp_path_factory.mktemp("half-a-year"), CI)


@pytest.fixture
def database(lived: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(lived, tmp_path / "control-plane.db"))


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    directory = tmp_path / "exports"
    directory.mkdir()
    return directory


class Kept(SqliteLogKeeper):
    """The keeper of a database, which exports in this process: tests are many."""

    def __init__(self, path: Path, store: SqliteStore) -> None:
        self.store = store
        self.path = path
        super().__init__(path, store, ThreadedStore(store))

    async def export(self, directory: Path, before: datetime) -> Exported:
        try:
            return export_months(self.path, directory, before)
        except Exception as error:
            raise WorkFailed(str(error)) from error


@pytest.fixture
def keeper(database: Path) -> Iterator[Kept]:
    with closing(SqliteStore(database)) as store:
        yield Kept(database, store)


def _worker(keeper: SqliteLogKeeper, exports: Path, keep_days: int = 20) -> RetentionWorker:
    return RetentionWorker(RetentionConfig(exports, keep_days), keeper, FakeClock(END))


def _files(exports: Path) -> dict[Path, int]:
    """Each file, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in exports.iterdir()}


def _make(path: Path, what: str) -> None:
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    if what == "a file":
        path.touch()
    elif what == "a directory":
        path.mkdir()


def _rows(database: Path, exports: Path | None = None) -> list[LogRow]:
    with closing(open_for_reading(database)) as connection:
        return list(whole_log(connection, exports))


def _first(database: Path) -> int:
    with closing(open_for_reading(database)) as connection:
        return log_start(connection).first_seq


def _require_sound(database: Path, exports: Path) -> None:
    with closing(open_for_reading(database)) as connection:
        assert check_chain(connection).problem is None
        assert check_views(connection).differences == ()
        assert check_views(connection, dropped_rows(connection, exports)).differences == ()
    with closing(SqliteStore(database)) as store:
        assert load_state(store).left_out == ()


async def test_whole_months_that_nothing_needs_are_exported_and_dropped(
    keeper: Kept, exports: Path
) -> None:
    """A file for each month; the month of the last release stays from its first row on; nothing is lost."""
    rows = _rows(keeper.path)
    worker = _worker(keeper, exports)
    await worker.look()
    first = _first(keeper.path)
    assert rows[first - 2].ts[:7] == MONTHS[-1]
    assert rows[first - 1].ts[:7] == "2025-06"
    assert len(_files(exports)) == len(MONTHS)
    assert _rows(keeper.path, exports) == rows
    with closing(sqlite3.connect(keeper.path)) as connection:
        assert connection.execute("SELECT min(seq) FROM event_log").fetchone() == (first,)
    _require_sound(keeper.path, exports)
    assert (worker.kept.first_seq, worker.last_at) == (first, END)


async def test_a_month_goes_once_all_of_it_is_older_than_the_days_that_are_kept(
    keeper: Kept, exports: Path
) -> None:
    """With 100 days at the ninth of July everything from the first of March on stays."""
    rows = _rows(keeper.path)
    await _worker(keeper, exports, keep_days=100).look()
    assert rows[_first(keeper.path) - 1].ts[:7] == "2025-03"
    assert rows[_first(keeper.path) - 2].ts[:7] == "2025-02"
    again = _first(keeper.path)
    await _worker(keeper, exports, keep_days=100).look()
    assert _first(keeper.path) == again


async def test_a_crash_between_export_and_drop_uses_the_files_again(
    keeper: Kept, exports: Path
) -> None:
    """They are verified and not written anew."""
    await keeper.export(exports, END - timedelta(days=20))
    written = _files(exports)
    assert _first(keeper.path) == 1
    await _worker(keeper, exports).look()
    assert _files(exports) == written
    assert _first(keeper.path) > 1
    _require_sound(keeper.path, exports)


async def test_a_file_that_was_altered_since_a_crash_keeps_every_row(
    keeper: Kept, exports: Path
) -> None:
    """Nothing is dropped without files that can be read back; the file is named, and stays for whoever looks."""
    await keeper.export(exports, END - timedelta(days=20))
    target = sorted(_files(exports))[2]
    altered = target.read_bytes()[:-9]
    target.write_bytes(altered)
    with pytest.raises(WorkFailed, match=target.name):
        await _worker(keeper, exports).look()
    assert _first(keeper.path) == 1
    assert target.read_bytes() == altered


async def test_a_crash_before_the_rows_are_removed_leaves_rows_that_nothing_reads(
    keeper: Kept, exports: Path
) -> None:
    """Chain, views, starts with and without cache are as without them; the next look removes them."""
    rows = _rows(keeper.path)
    exported = await keeper.export(exports, END - timedelta(days=20))
    assert exported.start is not None
    await keeper.begin_at(exported.start)
    first = _first(keeper.path)
    assert first == exported.start.first_seq > 1
    with closing(sqlite3.connect(keeper.path)) as connection:
        assert connection.execute("SELECT min(seq) FROM event_log").fetchone() == (1,)
    assert _rows(keeper.path, exports) == rows
    _require_sound(keeper.path, exports)
    with closing(sqlite3.connect(keeper.path)) as connection:
        connection.execute("DELETE FROM host_rollout_records")
        connection.execute("UPDATE host_records_through SET event_log_seq = 1000000")
        connection.commit()
    _require_sound(keeper.path, exports)
    await _worker(keeper, exports).look()
    with closing(sqlite3.connect(keeper.path)) as connection:
        assert connection.execute("SELECT min(seq) FROM event_log").fetchone() == (first,)


async def test_a_log_that_is_another_one_does_not_begin_at_what_was_exported(
    keeper: Kept, exports: Path
) -> None:
    """The row before the new beginning must be the last one in the files."""
    exported = await keeper.export(exports, END - timedelta(days=20))
    assert exported.start is not None
    with closing(sqlite3.connect(keeper.path)) as connection:
        connection.execute("DROP TRIGGER event_log_is_append_only_update")
        connection.execute(
            "UPDATE event_log SET hash = zeroblob(32) WHERE seq = ?",
            (exported.start.first_seq - 1,),
        )
        connection.commit()
    with pytest.raises(StartDiffers, match="which was exported, found 00"):
        await keeper.begin_at(exported.start)
    assert _first(keeper.path) == 1


async def test_a_directory_that_cannot_be_used_is_said_once_and_tried_every_hour(
    keeper: Kept, exports: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Missing, then a file, then there again: rows stay, health says since when it fails, and then it works."""
    caplog.set_level(logging.INFO)
    _make(exports, "nothing")
    clock = FakeClock(END)
    worker = RetentionWorker(RetentionConfig(exports, 20), keeper, clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await anyio.wait_all_tasks_blocked()
        await _until(lambda: worker.failing_since == END)
        assert "expected a directory that can be written, found nothing" in caplog.text
        told = "\n".join(worker.lines(1000))
        assert (
            "FAILING since 2025-07-09T09:00:00Z: the directory cannot be used: the log of" in told
        )
        assert "the log begins at row 1, of 2025-01-06T09:00:00Z, and has 1000 rows" in told
        assert ', for an artefact in force: "nixfleet status" names it' in told
        assert str(exports) not in told
        _make(exports, "a file")
        clock.advance(3600)
        await _until(lambda: "found something else" in caplog.text)
        assert worker.failing_since == END
        clock.advance(3600)
        await _until(lambda: len(caplog.messages) == 2)
        _make(exports, "a directory")
        assert _first(keeper.path) == 1
        clock.advance(3600)
        await _until(lambda: _first(keeper.path) > 1)
        await _until(lambda: worker.failing_since is None)
        tasks.cancel_scope.cancel()
    assert any("works again, after 3:00:00" in each for each in caplog.messages)


async def test_a_full_disk_under_the_exports_keeps_every_row_and_holds_up_no_commit(
    keeper: Kept, small_disk: Path
) -> None:
    """The error names the file, and the next look with room drops what this one could not."""
    filler = small_disk / "filler"
    with suppress(OSError):
        filler.write_bytes(bytes(2 * 1024 * 1024))
    worker = _worker(keeper, small_disk)
    with pytest.raises(WorkFailed, match="No space left on device; make room"):
        await worker.look()
    assert _first(keeper.path) == 1
    head = _rows(keeper.path)[-1]
    keeper.store.commit([head._replace(seq=head.seq + 1)])
    filler.unlink()
    await worker.look()
    assert _first(keeper.path) > 1


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(WITHIN_SECONDS):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def test_commits_go_on_while_rows_are_removed(keeper: Kept, exports: Path) -> None:
    """Each portion is a transaction of its own, and a commit between two of them is in the log."""
    exported = await keeper.export(exports, END - timedelta(days=20))
    assert exported.start is not None
    await keeper.begin_at(exported.start)
    head = _rows(keeper.path, exports)[-1]
    removed = 0
    for number in range(1, 6):
        removed += keeper.store.between_commits(partial(remove_dropped, rows_max=7))
        keeper.store.commit([head._replace(seq=head.seq + number)])
    assert removed == 35
    with closing(open_for_reading(keeper.path)) as connection:
        report = check_chain(connection)
    assert (report.problem, report.rows) == (None, head.seq + 5)


def test_a_content_that_a_later_row_refers_to_is_not_removed(
    database: Path,
) -> None:
    """A release that is signed again between the search for unused contents and their removal keeps its own."""
    with closing(SqliteStore(database)) as store:

        def put(connection: sqlite3.Connection) -> None:
            for name in ("used-again", "unused"):
                connection.execute("INSERT INTO contents VALUES (?, 'text')", (name,))

        def refer(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO event_log SELECT seq + 1, ts, 'artefact_accepted', NULL, NULL,"
                """ '{"body": [{"content": "used-again"}]}', NULL, NULL, NULL, NULL, prev_hash, hash"""
                " FROM event_log ORDER BY seq DESC LIMIT 1"
            )

        store.between_commits(put)
        found = store.between_commits(unreferred)
        assert set(found.hashes) == {"used-again", "unused"}
        store.between_commits(refer)
        removed = store.between_commits(partial(remove_unreferred, found=found))
        left = store.between_commits(unreferred)
    assert (removed, left.hashes) == (1, ())


async def test_contents_that_a_crash_left_without_rows_go_after_the_next_start(
    keeper: Kept, exports: Path
) -> None:
    """Rows and the contents that they referred to are removed one after the other: a look finds what is left."""
    await _worker(keeper, exports).look()

    def put(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO contents VALUES ('left', 'text')")

    keeper.store.between_commits(put)
    await _worker(Kept(keeper.path, keeper.store), exports).look()
    assert keeper.store.between_commits(unreferred).hashes == ()


async def test_the_last_export_is_known_after_a_restart(keeper: Kept, exports: Path) -> None:
    """By the file that the log continues."""
    await _worker(keeper, exports).look()
    last = _first(keeper.path) - 1
    (file,) = (path for path in _files(exports) if f"-{last:012}." in path.name)
    os.utime(file, (END.timestamp(), END.timestamp()))
    again = _worker(keeper, exports)
    await again.look()
    assert again.last_at == END
    assert f"retention: last exported at {format_time(END)}" in [*again.lines(1000)]


@pytest.mark.parametrize(
    ("what", "step"),
    [("export", "rows cannot be exported"), ("begin_at", "rows cannot be dropped")],
)
async def test_health_says_which_step_fails_and_not_what_failed_in_it(
    keeper: Kept, exports: Path, monkeypatch: pytest.MonkeyPatch, what: str, step: str
) -> None:
    """Strangers read it: what the error names is for the log of the process."""

    async def fail(*_: object) -> None:
        raise WorkFailed("/a/path of web-01")

    monkeypatch.setattr(keeper, what, fail)
    worker = _worker(keeper, exports)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await _until(lambda: worker.failing_since is not None)
        tasks.cancel_scope.cancel()
    told = "\n".join(worker.lines(1000))
    assert f": {step}: the log of the process says why" in told
    assert "web-01" not in told


def test_what_needs_the_first_row_that_stays_is_named(database: Path) -> None:
    """An operator learns what to end."""
    with closing(open_for_reading(database)) as connection:
        span = exportable(connection, END)
    assert span.needed_by.startswith("fleet.resolved.json")
    assert span.needed_by.endswith(", which is in force")


@pytest.mark.parametrize(
    ("at", "now", "expected"),
    [
        (time(3, 0), "2025-07-07T02:59:59+00:00", 1),
        (time(3, 0), "2025-07-07T03:00:00+00:00", 24 * 3600),
        (time(3, 0), "2025-07-07T09:00:00+00:00", 18 * 3600),
        (time(0, 0), "2025-12-31T23:00:00+00:00", 3600),
    ],
)
def test_the_next_look_is_at_the_next_time_of_day(at: time, now: str, expected: float) -> None:
    """Never at once, or a look would follow a look."""
    assert seconds_until(at, datetime.fromisoformat(now)) == expected


class _NotingClock(FakeClock):
    """Notes for how long it was slept."""

    def __init__(self, start: datetime) -> None:
        super().__init__(start)
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await super().sleep(seconds)


async def test_the_next_look_is_at_the_time_of_the_configuration(
    keeper: Kept, exports: Path
) -> None:
    """Not at the default, once a look went well."""
    clock = _NotingClock(END)
    at = (END + timedelta(hours=2)).time()
    worker = RetentionWorker(RetentionConfig(exports, 20, at), keeper, clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await _until(lambda: clock.slept != [])
        tasks.cancel_scope.cancel()
    assert (worker.failing_since, clock.slept) == (None, [2 * 3600])


def test_a_control_plane_process_exports_and_drops_beside_its_hosts(
    lived: Path, tmp_path: Path
) -> None:
    """In a process of its own, at once after the start; health and metrics say so, and a stop ends in order."""
    premises = Premises(tmp_path, CI)
    shutil.copy(lived, premises.database)
    exports = tmp_path / "archive"
    exports.mkdir()
    rows = _rows(premises.database)
    with premises.config.open("a") as config:
        config.write('[retention]\ndirectory = "archive"\nkeep_days = 1\n')
    with premises.running() as living:
        with httpx2.Client(base_url=living.url, trust_env=False) as client:
            while "last exported" not in (told := client.get("/healthz").text):
                assert "FAILING" not in told, premises.said()
            metrics = client.get("/metrics").text
        assert living.stop() == 0
    first = _first(premises.database)
    assert f"\nthe log begins at row {first}, of 2025-06-" in told
    assert f"nixfleet_log_rows {float(len(rows) - first + 1)}" in metrics
    assert "nixfleet_retention_failing_seconds 0.0" in metrics
    assert _rows(premises.database, exports)[: len(rows)] == rows
    _require_sound(premises.database, exports)
    assert "retention: exported the rows 1 to" in premises.said()
