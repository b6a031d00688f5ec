"""`nixfleet log`: the canonical log of a control plane, told and checked. Reads only."""

from pathlib import Path

import click

from nixfleet_cli.shared.database import database_argument, reading
from nixfleet_cli.shared.failures import Findings
from nixfleet_control_plane.history.follower import Follower, Happening
from nixfleet_control_plane.history.narration import line_of
from nixfleet_control_plane.history.rebuild import ViewDifference, check_chain, check_views
from nixfleet_runtime.process import garbage

_DIFFERENCES_SHOWN_MAX = 20


@click.group()
def log() -> None:
    """The log of everything that ever changed anything."""


@log.command()
@database_argument
@click.option("--host", metavar="NAME", help="Only what is about this host.")
@click.option("--rollout", metavar="ID", help="Only what is about this rollout.")
@click.option(
    "--after", metavar="SEQ", type=click.IntRange(min=0), default=0, help="Only later rows."
)
@click.option("--all", "with_routine", is_flag=True, help="Also probes that say nothing new.")
def show(
    database: Path, host: str | None, rollout: str | None, after: int, with_routine: bool
) -> None:
    """Tell what happened: when, in which rollout, who, what, and why.

    Exit codes: 0 told; 1 a row of the log is damaged; 2 DB cannot be read.
    """
    left_out = 0
    with reading(database) as connection:
        for happening in Follower(connection).catch_up():
            if happening.logged.seq <= after or not _is_about(happening, host, rollout):
                continue
            if happening.is_routine and not with_routine:
                left_out += 1
                continue
            click.echo(line_of(happening))
    if left_out:
        click.echo(f"(left out: {left_out} rows of probes that say nothing new; --all)", err=True)


@log.command()
@database_argument
def verify(database: Path) -> None:
    """Check that no row of the log was altered, removed or moved.

    Rows cut off at the end leave no trace in the log itself: compare the head with one you noted earlier.

    Exit codes: 0 the chain holds; 1 it is broken, and where; 2 DB cannot be read.
    """
    with reading(database) as connection:
        report = check_chain(connection)
    if report.problem is not None:
        raise Findings(f"{database}: the chain breaks at row {report.broken_at}: {report.problem}")
    click.echo(f"the chain holds: {report.rows} rows, head {report.head_hash.hex()}")


@log.command()
@database_argument
@click.option("--check", is_flag=True, required=True, help="Compare; there is nothing else yet.")
def rebuild(database: Path, check: bool) -> None:
    """Derive every view from the log again, and compare it with the stored one.

    Nothing is written: with --check, which must be given, the stored views stay as they are.

    Exit codes: 0 all are equal; 1 some differ, and where; 2 DB cannot be read.
    """
    garbage.collect_rarely()
    with reading(database) as connection:
        report = check_views(connection)
    if report.differences:
        raise Findings(_told(database, report.differences))
    click.echo(f"the views are what {report.entries} log entries come to")


def _is_about(happening: Happening, host: str | None, rollout: str | None) -> bool:
    return host in (None, happening.host_id) and rollout in (None, happening.rollout_id)


def _told(database: Path, differences: tuple[ViewDifference, ...]) -> str:
    lines = [f"{database}: views differ from what the log says, in {len(differences)} row(s):"]
    for each in differences[:_DIFFERENCES_SHOWN_MAX]:
        where = "stored, but not by the log" if each.stored else "by the log, but not stored"
        lines.append(f"  {each.table}, {where}: {each.row}")
    if len(differences) > _DIFFERENCES_SHOWN_MAX:
        lines.append(f"  and {len(differences) - _DIFFERENCES_SHOWN_MAX} more")
    return "\n".join(lines)
