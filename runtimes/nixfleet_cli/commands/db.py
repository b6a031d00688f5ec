"""`nixfleet db`: the files of both services, a control plane's database and an agent's journal, and their versions."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import click

from nixfleet_agent.journal.journal import require_readable
from nixfleet_agent.journal.journal_format import JOURNAL_FORMAT
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.database import config_option, sqlite_path, store_named
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import Output, printing
from nixfleet_cli.shared.progress import progress
from nixfleet_control_plane.config_store import NotFilled, StoreConfig
from nixfleet_control_plane.history.rebuild import check_chain
from nixfleet_control_plane.history.shadow import ViewsDiffer, compare_views, derive_views_anew
from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.opened_store import (
    StoreUnusable,
    StoreUpgrade,
    ViewsOfStoreDiffer,
)
from nixfleet_control_plane.store.queries import HEAD, open_for_reading
from nixfleet_proto.codec import DecodeError
from nixfleet_runtime.config.plugins import PluginUnusable
from nixfleet_runtime.process import garbage
from nixfleet_runtime.process.progress import Noted
from nixfleet_runtime.storage.copies import DamagedDatabase, NotEnoughSpace, NotUpgraded
from nixfleet_runtime.storage.file_format import Step
from nixfleet_runtime.storage.instance_lock import DatabaseInUse, only_process_on
from nixfleet_runtime.storage.opening import is_full
from nixfleet_runtime.storage.sqlite import CommitInDoubt, NotOurDatabase, SchemaRefused
from nixfleet_runtime.storage.upgrade import Check, Upgraded, UpgradePlan
from nixfleet_runtime.storage.writer import bring_up_to_date, planned_upgrade

_CORRECTED_SHOWN_MAX: Final = 20
_MEGABYTE: Final = 1_000_000


@group()
def db() -> None:
    """Upgrade and copy the files of a control plane or an agent."""


@db.command()
@click.argument("file", metavar="[PATH]", required=False, type=click.Path(path_type=Path))
@config_option
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option(
    "--rebuild",
    is_flag=True,
    help="Derive the views anew from the log where this program derives others than are stored.",
)
@printing(
    "one object with path, kind, found, version, steps (of each, version and summary), bytesNeeded, bytesFree, "
    "upgraded, copy, corrected and logRows (null of a journal, and with --dry-run)"
)
def upgrade(
    output: Output, file: Path | None, config_file: Path | None, dry_run: bool, rebuild: bool
) -> None:
    """Upgrade PATH to the version that this program writes.

    PATH is the database of a control plane or the journal of an agent, whose service must be stopped; --config finds
    the database by the control plane's configuration. Checks the space, makes a copy and verifies it, upgrades in one
    transaction, and verifies the result: killed at any moment, or with a full disk, PATH is as it was. Both services do
    the same when they start. --rebuild makes a copy in any case.

    Of a PostgreSQL store, named by --config, the schema is upgraded in one transaction, and a control plane that has it
    writes to it no more. No copy is made: make a backup by the server's own means. There --dry-run compares the views
    with the log, if the schema has this program's version.

    Exit codes: 0 PATH has this program's version; 1 PATH is damaged, or its log gives other views; 2 PATH cannot be
    used.
    """
    garbage.collect_rarely()
    store = store_named(file, config_file, "PATH")
    if store.path is None and store.is_upgraded_beside:
        _upgrade_store(output, store, dry_run=dry_run, rebuild=rebuild)
        return
    file = sqlite_path(store, "nixfleet db upgrade")
    with _refusing(file):
        file_format, plan = planned_upgrade(file, (DATABASE_FORMAT, JOURNAL_FORMAT))
        is_database = file_format is DATABASE_FORMAT
        if rebuild and not is_database:
            raise Unusable(f"{file} is {plan.kind}, which has no views: expected no --rebuild")
        if not output.as_json:
            output.show(None, _plan_lines(plan))
        if plan.steps and plan.space.free < plan.space.needed:
            raise NotEnoughSpace(file, plan.space.needed, plan.space.free)
        if dry_run:
            output.show(_value(plan, None, None), ["nothing was done: --dry-run"])
            return
        with only_process_on(file), progress(output, f"upgrading {file.name}", "rows") as bar:
            check = _check(is_database, rebuild, bar.noted)
            done = bring_up_to_date(file, file_format, check, always=rebuild)
        rows = _verified_rows(output, file) if is_database else None
    output.show(_value(plan, done, rows), _done_lines(plan, done, rows))


@db.command()
@click.argument("source", metavar="SOURCE")
@click.option(
    "--config",
    "config_file",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The control plane's configuration, whose [store] gets the copy.",
)
@printing("one object with source, store, logRows, headHash")
def copy(output: Output, source: str, config_file: Path) -> None:
    """Copy a SQLite database into another store.

    SOURCE is sqlite:PATH. Its log is copied with its chain of hashes, and with everything that is derived from it. The
    control plane must be stopped. The store must have nothing yet. The chain is verified before, and all of
    it is there in the end, or nothing; PATH is only read.

    Exit codes: 0 the store has the copy; 1 the log in PATH was altered; 2 SOURCE or the store cannot be used.
    """
    scheme, _, path = source.partition(":")
    if scheme != "sqlite" or not path:
        raise Unusable(f"expected sqlite:PATH, found {source!r}")
    file, store = Path(path), store_named(None, config_file)
    if store.path is not None:
        raise Unusable(str(NotFilled(store.where)))
    with _refusing(file), only_process_on(file), closing(open_for_reading(file)) as connection:
        connection.execute("BEGIN")
        report = check_chain(connection)
        if report.problem is not None:
            where = f"the chain of its log breaks at row {report.broken_at}: {report.problem}"
            raise Findings(f"{file} was not copied: {where}")
        try:
            anyio.run(store.fill, connection, report, str(file))
        except (StoreUnusable, PluginUnusable) as error:
            raise Unusable(str(error)) from error
    value = {
        "source": str(file),
        "store": store.where,
        "logRows": report.rows,
        "headHash": report.head_hash.hex(),
    }
    done = (
        f"copied {report.rows} rows of {file} to {store.where}, with the head {value['headHash']}"
    )
    output.show(value, [done])


def _upgrade_store(output: Output, store: StoreConfig, *, dry_run: bool, rebuild: bool) -> None:
    """Upgrade a store that is no file. Raises: Findings, Unusable."""
    try:
        with progress(output, f"upgrading {store.where}", "rows") as bar:
            done = anyio.run(
                partial(store.upgrade, dry_run=dry_run, rebuild=rebuild, noted=bar.noted)
            )
    except DamagedRow as error:
        raise Findings(f"{store.where} was not upgraded, and is as it was: {error}") from error
    except StoreUnusable as error:
        raise (Findings if isinstance(error, ViewsOfStoreDiffer) else Unusable)(
            str(error)
        ) from error
    except PluginUnusable as error:
        raise Unusable(str(error)) from error
    output.show(_store_value(store, done), _store_lines(store, done, dry_run=dry_run))


def _store_lines(store: StoreConfig, done: StoreUpgrade, *, dry_run: bool) -> Iterator[str]:
    yield f"{store.where} has version {done.found} of its schema; this program writes {done.version}"
    for step in done.steps:
        yield f"  to {step.version}: {step.summary}"
    yield from _corrected_lines(done.corrected)
    if dry_run:
        if not done.steps:
            yield "the views equal those derived from the log"
        yield "nothing was done: --dry-run"
        return
    yield f"verified: {done.rows} rows, and the views equal those derived from the log"
    yield "it was upgraded" if done.steps else "nothing to upgrade"


def _store_value(store: StoreConfig, done: StoreUpgrade) -> object:
    return {
        "path": store.where,
        "kind": f"the store of a control plane, of kind {store.plugin.name}",
        "found": done.found,
        "version": done.version,
        "steps": _steps_value(done.steps),
        "bytesNeeded": None,
        "bytesFree": None,
        "upgraded": done.rows is not None and bool(done.steps),
        "copy": None,
        "corrected": list(done.corrected),
        "logRows": done.rows,
    }


def _check(is_database: bool, rebuild: bool, noted: Noted) -> Check:
    if not is_database:
        return require_readable
    return partial(derive_views_anew if rebuild else compare_views, noted=noted)


def _verified_rows(output: Output, file: Path) -> int:
    """Return the number of rows of the log. Raises: Findings, if its chain does not hold."""
    with (
        closing(open_for_reading(file)) as connection,
        progress(output, "verifying the chain", "rows", HEAD.of(connection)) as bar,
    ):
        report = check_chain(connection, bar.noted)
    if report.problem is not None:
        where = f"the chain of its log breaks at row {report.broken_at}: {report.problem}"
        raise Findings(f"{file} has this program's version, but {where}")
    return report.rows


def _plan_lines(plan: UpgradePlan) -> Iterator[str]:
    if plan.found == plan.version:
        yield f"{plan.path} is {plan.kind}, of version {plan.found}, which this program writes"
        return
    yield f"{plan.path} is {plan.kind}, of version {plan.found}; this program writes {plan.version}"
    for step in plan.steps:
        yield f"  to {step.version}: {step.summary}"
    yield f"space: at most {_megabytes(plan.space.needed)} needed, {_megabytes(plan.space.free)} free"


def _done_lines(plan: UpgradePlan, done: Upgraded, rows: int | None) -> Iterator[str]:
    if done.copy is not None:
        yield f"the file of before is {done.copy}"
    yield from _corrected_lines(done.corrected)
    if rows is not None:
        yield f"verified: the chain of the log holds, {rows} rows, and the views equal those derived from it"
    else:
        yield "verified: everything in it can be read"
    yield "it was upgraded" if plan.found != plan.version else "nothing to upgrade"


def _corrected_lines(corrected: Sequence[str]) -> Iterator[str]:
    if corrected:
        yield f"derived anew from the log, {len(corrected)} row(s):"
        yield from (f"  {line}" for line in corrected[:_CORRECTED_SHOWN_MAX])
        if len(corrected) > _CORRECTED_SHOWN_MAX:
            yield f"  and {len(corrected) - _CORRECTED_SHOWN_MAX} more"


def _steps_value(steps: Iterable[Step]) -> object:
    return [{"version": step.version, "summary": step.summary} for step in steps]


def _megabytes(count: int) -> str:
    return f"{count / _MEGABYTE:,.1f} MB"


def _value(plan: UpgradePlan, done: Upgraded | None, rows: int | None) -> object:
    return {
        "path": str(plan.path),
        "kind": plan.kind,
        "found": plan.found,
        "version": plan.version,
        "steps": _steps_value(plan.steps),
        "bytesNeeded": plan.space.needed if plan.steps else 0,
        "bytesFree": plan.space.free,
        "upgraded": done is not None and plan.found != plan.version,
        "copy": None if done is None or done.copy is None else str(done.copy),
        "corrected": [] if done is None else list(done.corrected),
        "logRows": rows,
    }


@contextmanager
def _refusing(file: Path) -> Iterator[None]:
    """Turn every error of an upgrade into a failure of the command."""
    try:
        yield
    except (ViewsDiffer, DamagedDatabase) as error:
        raise Findings(str(error)) from error
    except (DamagedRow, DecodeError) as error:
        raise Findings(f"{file} was not upgraded, and is as it was: {error}") from error
    except (SchemaRefused, NotOurDatabase, NotUpgraded, DatabaseInUse) as error:
        raise Unusable(str(error)) from error
    except CommitInDoubt as error:
        raise Unusable(
            f"{file}: {error}; run the command again, which finds what is there"
        ) from error
    except (OSError, sqlite3.Error) as error:
        advice = "; make room on its disk, and try again" if is_full(error) else ""
        raise Unusable(f"{file} was not upgraded, and is as it was: {error}{advice}") from error
