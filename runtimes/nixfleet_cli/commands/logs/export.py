"""`nixfleet log export`: moves the beginning of a log into files."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import anyio
import click

from nixfleet_cli.shared.arguments import now, time
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.database import (
    config_option,
    reading_database,
    sqlite_path,
    store_named,
)
from nixfleet_cli.shared.exports import refusing_exports
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import Output, printing, shown_time
from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.history.rebuild import check_chain
from nixfleet_control_plane.history.retention.dropping import StartDiffers, drop, export
from nixfleet_control_plane.history.retention.export_file import NotWritten
from nixfleet_control_plane.history.retention.exportable import (
    Exportable,
    exportable,
    month_after,
)
from nixfleet_control_plane.history.retention.keeper import ChainBroken, Exported
from nixfleet_control_plane.history.shadow import compare_views
from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.opened_store import StoreUnusable
from nixfleet_runtime.config.plugins import PluginUnusable
from nixfleet_runtime.process import garbage
from nixfleet_runtime.process.own_process import WorkFailed
from nixfleet_runtime.storage.copies import NotUpgraded
from nixfleet_runtime.storage.instance_lock import DatabaseInUse, only_process_on
from nixfleet_runtime.storage.opening import is_full
from nixfleet_runtime.storage.sqlite import CommitInDoubt
from nixfleet_runtime.storage.writer import open_writer

_KEPT: Final = timedelta(days=90)
_MONTH: Final = re.compile("[0-9]{4}-[0-9]{2}")
_ALWAYS_KEPT: Final = timedelta(days=1)
"""A start reads from the log which signed commands were carried out lately, so that none is taken twice."""


@command(name="export")
@click.argument("database", metavar="[DB]", required=False, type=click.Path(path_type=Path))
@click.argument("directory", metavar="DIR", required=False, type=click.Path(path_type=Path))
@config_option
@click.option(
    "--before",
    metavar="TIME",
    callback=lambda _context, _option, text: None if text is None else _time_or_date(text),
    help="Only rows older than this, a time or a date such as 2026-11-01; default: 90 days before now. Those of the "
    "last day stay in any case.",
)
@click.option(
    "--month",
    metavar="MONTH",
    callback=lambda _context, _option, text: None if text is None else _month(text),
    help="Only rows up to the end of this month, such as 2026-10, in UTC; not with --before.",
)
@click.option("--drop", "is_dropped", is_flag=True, help="Remove the exported rows from DB.")
@printing(
    "one object with firstRow, rows, firstNeededRow, neededBy, files and dropped, which is false without --drop"
)
def export_log(
    output: Output,
    database: Path | None,
    directory: Path | None,
    config_file: Path | None,
    before: datetime | None,
    month: datetime | None,
    is_dropped: bool,
) -> None:
    """Write the rows that nothing needs any more to files in DIR.

    Exports the beginning of the log, up to the first row that is not older than --before, or later than --month, or
    that something live needs: a rollout that is not pruned, an artefact in force, an outstanding failure, a quarantine,
    a hold, a warrant. Each file has rows of one month. It is compressed, chained to the one before it, and verified
    when it is written; `log verify --exports DIR` checks it later. With --drop the rows are removed from DB afterwards;
    the control plane must be stopped. One with [retention] in its configuration does all of this itself while it runs.
    Views stay as they are. Keep the files: what is dropped is only there. DB is the database of a control plane.

    Of a PostgreSQL store, named by --config, whole months (UTC) are exported and dropped, and the control plane may run
    meanwhile. To drop, the role of the store, or that of its owner_dsn_file, must own the tables.

    Exit codes: 0 exported, or nothing to export; 1 the log is damaged, or a file in DIR has other rows; 2 DB or DIR
    cannot be used.
    """
    garbage.collect_rarely()
    if before is not None and month is not None:
        raise click.UsageError("expected --before or --month, found both")
    before = before if month is None else month_after(month)
    store, directory = _named(database, directory, config_file)
    older_than = now() - _KEPT if before is None else min(before, now() - _ALWAYS_KEPT)
    if store.path is None and store.is_kept_beside:
        exported = _exported_by_keeper(store, directory, older_than, is_dropped=is_dropped)
        is_dropped = is_dropped and exported.span.rows > 0
        lines = _lines(exported.span, exported.files, older_than, is_dropped)
        output.show(_value(exported.span, exported.files, is_dropped), lines)
        return
    database = sqlite_path(store, "nixfleet log export")
    with _refusing(database), refusing_exports(str(database)), ExitStack() as held:
        if is_dropped:
            held.enter_context(only_process_on(database))
        with reading_database(database) as connection:
            report = check_chain(connection)
            if report.problem is not None:
                raise Findings(f"{database}: the chain breaks at row {report.broken_at}")
            span = exportable(connection, older_than)
            files = export(connection, directory, span)
        is_dropped = is_dropped and span.rows > 0
        if is_dropped:
            writer = open_writer(database, DATABASE_FORMAT, check=compare_views)
            with closing(writer):
                drop(writer, span)
    output.show(_value(span, files, is_dropped), _lines(span, files, older_than, is_dropped))


def _exported_by_keeper(
    store: StoreConfig, directory: Path, older_than: datetime, *, is_dropped: bool
) -> Exported:
    """Export whole months of a store that is no file, and drop them. Raises: Findings, Unusable."""

    async def export() -> Exported:
        async with store.keeping() as keeper:
            exported = await keeper.export(directory, older_than)
            if is_dropped and exported.start is not None:
                await keeper.begin_at(exported.start)
            while is_dropped and await keeper.remove():
                pass
            return exported

    with refusing_exports(store.where):
        try:
            return anyio.run(export)
        except (ChainBroken, DamagedRow, StartDiffers) as error:
            raise Findings(f"{store.where}: {error}; nothing was dropped") from error
        except (NotReadable, StoreUnusable, PluginUnusable, WorkFailed) as error:
            raise Unusable(str(error)) from error
        except OSError as error:
            advice = "; make room, and try again" if is_full(error) else ""
            raise Unusable(f"{error}; nothing was dropped{advice}") from error


def _named(
    database: Path | None, directory: Path | None, config_file: Path | None
) -> tuple[StoreConfig, Path]:
    """Return the store, and the directory. Raises: UsageError, Unusable."""
    if directory is None:  # one argument alone is DIR
        database, directory = None, database
    if directory is None or not directory.is_dir():
        found = "none" if directory is None else f"none at {directory}"
        raise click.UsageError(f"expected DIR, a directory that is there, found {found}")
    return store_named(database, config_file), directory


def _time_or_date(text: str) -> datetime:
    is_date = len(text) == len("2026-11-01")
    return time(f"{text}T00:00:00Z" if is_date else text)


def _month(text: str) -> datetime:
    if not _MONTH.fullmatch(text):
        raise click.BadParameter(f"expected a month such as 2026-10, found {text!r}")
    return time(f"{text}-01T00:00:00Z")


def _lines(
    span: Exportable, files: tuple[Path, ...], before: datetime, is_dropped: bool
) -> Iterator[str]:
    if not span.rows:
        yield (
            f"nothing to export: row {span.first_needed_seq} is needed by {span.needed_by or 'the log'}, or rows from "
            f"{span.first_seq} on are not older than {shown_time(before)}"
        )
        return
    yield f"exported the rows {span.first_seq} to {span.last_seq}:"
    yield from (f"  {file}" for file in files)
    if is_dropped:
        yield f"the log begins at row {span.last_seq + 1} now; keep the files"


def _value(span: Exportable, files: tuple[Path, ...], is_dropped: bool) -> object:
    return {
        "firstRow": span.first_seq,
        "rows": span.rows,
        "firstNeededRow": span.first_needed_seq,
        "neededBy": span.needed_by,
        "files": [str(file) for file in files],
        "dropped": is_dropped,
    }


@contextmanager
def _refusing(database: Path) -> Iterator[None]:
    try:
        yield
    except DamagedRow as error:
        raise Findings(f"{database}: {error}; nothing was dropped") from error
    except StartDiffers as error:
        raise Findings(f"{database}: {error}; nothing was dropped") from error
    except (DatabaseInUse, NotUpgraded, NotWritten) as error:
        raise Unusable(f"{error}; nothing was dropped") from error
    except CommitInDoubt as error:
        raise Unusable(f"{database}: {error}; `log verify` shows what it has") from error
    except (OSError, sqlite3.Error) as error:
        advice = "; make room, and try again" if is_full(error) else ""
        raise Unusable(f"{error}; nothing was dropped{advice}") from error
