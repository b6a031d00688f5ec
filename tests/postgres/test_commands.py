"""The commands that operators run, on a database that was copied from SQLite: the same answers."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from nixfleet_control_plane.config import ForecastConfig
from nixfleet_control_plane.config_store import StoreConfig, load_store_config, sqlite_config
from nixfleet_control_plane.forecaster import forecasting
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.reading.stored_log import followed
from nixfleet_postgres.postgres_store import open_store
from nixfleet_postgres.target import Target
from nixfleet_runtime.http.forecasts import Forecast
from tests.cli.conftest import Invoke, database, files, nixfleet, prepared  # noqa: F401
from tests.cli.test_json import require_json
from tests.cli.test_log_proofs import Office
from tests.cli.test_plugged_store import rows_of
from tests.forecast.fleets import lived
from tools.postgres.server import Server

STATUS = ("status", "--at", "2026-05-16T02:15:00Z")


@pytest.fixture
def config(target: Target, tmp_path: Path) -> Path:
    """The configuration of a control plane on an empty schema."""
    file = tmp_path / "postgres.toml"
    file.write_text(
        f'[store]\nkind = "postgres"\ndsn_file = "{target.dsn_file}"\nschema = "{target.schema}"\n'
    )
    return file


@pytest.fixture
def copied(config: Path, database: Path, nixfleet: Invoke) -> Path:  # noqa: F811
    """The same, with a copy of `database`."""
    done = nixfleet("db", "copy", f"sqlite:{database}", "--config", config)
    assert done.exit_code == 0, done.output
    return config


@contextmanager
def _altering(server: Server, target: Target, statement: str) -> Iterator[None]:
    """As one does who owns the database: switches the triggers off."""

    async def alter() -> None:
        owner = await server.connect()
        await owner.execute(
            f'SET session_replication_role = replica; SET search_path = "{target.schema}"; {statement}'
        )
        await owner.close()

    anyio.run(alter)
    yield


@pytest.mark.parametrize(
    "command",
    [
        STATUS,
        ("log", "show", "--all"),
        ("log", "show", "--all", "--json"),
        ("log", "verify"),
        ("log", "rebuild", "--check"),
        ("log", "forecast", "--at", "2026-05-16T02:15:00Z"),
        ("log", "backtest"),
    ],
)
def test_a_command_shows_the_same_of_a_copy_in_postgresql(
    nixfleet: Invoke,  # noqa: F811
    copied: Path,
    database: Path,  # noqa: F811
    command: tuple[str, ...],
) -> None:
    """Row for row, and hash for hash."""
    ours, theirs = nixfleet(*command, database), nixfleet(*command, "--config", copied)
    assert theirs.exit_code == ours.exit_code == 0, theirs.output
    expected = ours.stdout.replace(str(database), "the store 'postgres'")
    if command == STATUS:
        # That of a file ends with the file's version, and has no leader.
        *lines, _ = expected.splitlines(keepends=True)
        assert lines[-1].startswith("the first row that has to stay is ")
        expected = "".join(lines) + "store 'postgres'\nno leader\n"
    assert theirs.stdout == expected


def test_what_was_copied_has_the_same_head(
    nixfleet: Invoke,  # noqa: F811
    config: Path,
    database: Path,  # noqa: F811
) -> None:
    """In JSON, with the number of rows and the hash of the last one."""
    source = f"sqlite:{database}"
    done = nixfleet("db", "copy", source, "--config", config, "--json")
    (value,) = require_json("db copy", done)
    verified = json.loads(nixfleet("log", "verify", database, "--json").stdout)
    assert value["headHash"] == verified["headHash"]
    assert value["logRows"] == verified["rows"] > 0


def test_a_second_copy_is_refused(nixfleet: Invoke, copied: Path, database: Path) -> None:  # noqa: F811
    """What is there is not overwritten."""
    refused = nixfleet("db", "copy", f"sqlite:{database}", "--config", copied)
    assert refused.exit_code == 2
    assert "expected no control plane's data, found a log" in refused.stderr


def test_a_copy_to_a_schema_of_an_earlier_start_is_refused(
    nixfleet: Invoke,  # noqa: F811
    config: Path,
    target: Target,
    database: Path,  # noqa: F811
) -> None:
    """Also if its log is empty: the control plane that started there may write at any time."""

    async def start() -> None:
        await (await open_store(target)).close()

    anyio.run(start)
    refused = nixfleet("db", "copy", f"sqlite:{database}", "--config", config)
    assert refused.exit_code == 2
    assert "expected no control plane's data" in refused.stderr


def test_a_copy_lets_the_owner_make_the_schema(
    nixfleet: Invoke,  # noqa: F811
    config: Path,
    appender: Target,
    database: Path,  # noqa: F811
) -> None:
    """The role of the store itself may make none, and writes the copy."""
    options = config.read_text().replace(
        f'dsn_file = "{appender.owner_dsn_file}"',
        f'dsn_file = "{appender.dsn_file}"\nowner_dsn_file = "{appender.owner_dsn_file}"',
    )
    assert "owner_dsn_file" in options
    config.write_text(options)
    done = nixfleet("db", "copy", f"sqlite:{database}", "--config", config)
    assert done.exit_code == 0, done.output


def test_a_copy_to_a_store_that_takes_none_is_refused(
    nixfleet: Invoke,  # noqa: F811
    database: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """SQLite is copied as a file, and a source has a scheme."""
    config = tmp_path / "sqlite.toml"
    config.write_text('[store]\npath = "other.db"\n')
    refused = nixfleet("db", "copy", f"sqlite:{database}", "--config", config)
    assert (refused.exit_code, "takes no copy" in refused.stderr) == (2, True)
    refused = nixfleet("db", "copy", database, "--config", config)
    assert (refused.exit_code, "expected sqlite:PATH" in refused.stderr) == (2, True)


def test_a_row_that_was_altered_in_postgresql_is_found(
    nixfleet: Invoke,  # noqa: F811
    copied: Path,
    server: Server,
    target: Target,
) -> None:
    """By its number, by the chain that the database keeps itself."""
    with _altering(server, target, "UPDATE event_log SET ts = '2020' WHERE seq = 7"):
        found = nixfleet("log", "verify", "--config", copied)
    assert found.exit_code == 1
    assert "row 7" in found.stdout + found.stderr


def test_a_view_that_was_altered_in_postgresql_is_found(
    nixfleet: Invoke,  # noqa: F811
    copied: Path,
    server: Server,
    target: Target,
) -> None:
    """By the table and the row."""
    with _altering(server, target, "UPDATE rollouts SET current_wave = 7"):
        found = nixfleet("log", "rebuild", "--check", "--config", copied)
    assert found.exit_code == 1
    assert "rollouts" in found.stdout + found.stderr


def test_a_fork_of_a_copy_in_postgresql_has_its_rows(
    nixfleet: Invoke,  # noqa: F811
    copied: Path,
    database: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """By the same hashes, in a SQLite database that every command takes."""
    forked = nixfleet("log", "fork", "--config", copied, "--at", "9", "--to", tmp_path / "fork")
    ours = nixfleet("log", "fork", database, "--at", "9", "--to", tmp_path / "ours")

    assert (forked.exit_code, ours.exit_code) == (0, 0), forked.output
    heads = [
        json.loads(nixfleet("log", "verify", tmp_path / it / "control-plane.db", "--json").stdout)
        for it in ("fork", "ours")
    ]
    assert heads[0]["headHash"] == heads[1]["headHash"]


def test_a_control_plane_on_postgresql_has_forecasts(copied: Path, database: Path) -> None:  # noqa: F811
    """Of the rows in PostgreSQL, from a process that follows them there."""

    async def asked(store: StoreConfig) -> Forecast:
        now = datetime(2026, 5, 16, 2, 15, tzinfo=UTC)
        async with forecasting(ForecastConfig(), store, lambda: 0, lambda: now) as forecaster:
            with anyio.fail_after(60):
                return await forecaster.forecast()

    ours, theirs = (
        anyio.run(asked, store)
        for store in (sqlite_config(database), load_store_config(copied, {}))
    )
    assert theirs == ours
    assert theirs.head_seq > 0


def test_a_log_in_postgresql_that_grows_is_followed(
    nixfleet: Invoke,  # noqa: F811
    target: Target,
    config: Path,
    tmp_path: Path,
) -> None:
    """Each look has the rows since the last one, and no copy of the others is made."""
    with closing(lived(tmp_path, releases=1)) as fleet:
        done = nixfleet("db", "copy", f"sqlite:{fleet.database}", "--config", config)
        assert done.exit_code == 0, done.output
        rows = rows_of(fleet.database)
    with followed(load_store_config(config, {}).following()) as log:
        with log.look() as stored:
            assert list(stored.rows()) == rows
            assert list(stored.rows(len(rows) - 3)) == rows[-3:]
            assert stored.ask(lambda it: it.head()) == len(rows)
        anyio.run(_append_after, target, rows[-1])
        with log.look() as stored:
            (row,) = stored.rows(len(rows))
            assert row.seq == len(rows) + 1


async def _append_after(target: Target, last: LogRow) -> None:
    store = await open_store(target)
    await store.load()
    await store.commit([last._replace(seq=last.seq + 1)])
    await store.close()


def test_proofs_of_a_log_in_postgresql_are_those_of_its_source(
    nixfleet: Invoke,  # noqa: F811
    copied: Path,
    database: Path,  # noqa: F811
    tmp_path: Path,
    server: Server,
    target: Target,
) -> None:
    """Checkpoint and proof, byte for byte; a row that was altered is none of the checkpoint any more."""
    office = Office(tmp_path, nixfleet)
    ours = office.checkpoint(database)
    signing = ("--key", tmp_path / "ada.key", "--signer", "ada", "--to", tmp_path / "theirs")
    assert nixfleet("log", "checkpoint", "--config", copied, *signing).exit_code == 0
    first, second = (
        json.loads(file.read_text())["checkpoint"] for file in (ours, tmp_path / "theirs")
    )
    assert [first[it] for it in ("rows", "head", "root")] == [
        second[it] for it in ("rows", "head", "root")
    ]
    proof = office.prove(database, ours, "--row", "7")
    proving = ("--checkpoint", ours, "--row", "7", "--to", tmp_path / "their proof")
    done = nixfleet("log", "prove", "--config", copied, *proving)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "their proof").read_bytes() == proof.read_bytes()
    checking = ("--trust", office.trust, "--checkpoint", ours)
    expected = nixfleet("log", "verify", database, *checking).output
    found = nixfleet("log", "verify", "--config", copied, *checking).output
    assert found == expected.replace(str(database), "the store 'postgres'")
    assert "was not signed by CI" in found  # by the key of this office: the same is said of both
    with _altering(server, target, "UPDATE event_log SET ts = '2020' WHERE seq = 7"):
        refused = nixfleet("log", "prove", "--config", copied, *proving[:-1], tmp_path / "none")
    assert refused.exit_code == 1, refused.output
