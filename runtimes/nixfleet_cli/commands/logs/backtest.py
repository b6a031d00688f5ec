"""`nixfleet log backtest`: what other policies would have done to the releases of a log."""

from pathlib import Path

import click

from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.database import reading, store_argument
from nixfleet_cli.shared.failures import Findings, lines_of
from nixfleet_cli.shared.other_policies import Revision
from nixfleet_cli.shared.output import Output, printing, section, table, warn
from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.history.retention.log_start import LogStart
from nixfleet_forecast.backtest.backtest import BackTest, Play, Revise
from nixfleet_forecast.backtest.recording import Recording
from nixfleet_forecast.backtest.words import (
    ASSUMPTIONS,
    HEADER,
    Tested,
    differing,
    rollout_rows,
)
from nixfleet_release import CheckedFleet, DeclarationError, check
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_runtime.process import garbage

RECORDED = "recorded"


@command(name="backtest")
@store_argument
@click.option(
    "--policy",
    "policies",
    metavar="FILE",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="A declaration of the same fleet with another policy; may be repeated.",
)
@printing(
    "one object with policies (of each policy, harmed, hours, inFlightMax, ended, takenToSucceed, rollouts: rolloutId, "
    "state, hosts, openedAt, endedAt, harmed, inFlightMax, and notes), assumptions and differing"
)
def backtest_log(output: Output, store: StoreConfig, policies: tuple[Path, ...]) -> None:
    """Show what other policies would have done.

    The control plane's own engine gets again, from the log, what came from outside: releases, what hosts reported,
    commands and statements. Under the recorded policy it ends when it did. With --policy, a declaration (TOML), its
    waves, budgets, tolerances, deadlines, guards, calendar and edges take the place of the recorded ones, for the same
    hosts and closures. Shows, for each policy beside the recorded one, how many hosts failed, for how many hours
    rollouts were under way, and how many hosts at once; and what is assumed. Nothing is written. DB is the database of
    a control plane.

    Exit codes: 0 success; 1 a row is damaged, or a declaration has problems or is of another fleet; 2 DB cannot be
    read.
    """
    garbage.collect_rarely()
    revisions = [Revision(file, read_policy(file)) for file in policies]
    with reading(store) as stored:
        start = stored.ask(lambda it: it.log_start())
        recording = Recording(Replay(start))
        for row in stored.rows():
            recording.take(row)
    recorded = Tested(RECORDED, _played(recording, start))
    tested = [recorded]
    for revision in revisions:
        played = _played(recording, start, revision)
        require_same_fleet(revision)
        tested.append(Tested(str(revision.file), played))
    wrong = differing(recording, recorded.played)
    if wrong:
        warn(
            f"under the recorded policy {', '.join(wrong[:5])} would not end when it did: compare the policies with "
            "each other, and not with the log"
        )
    output.show(
        {
            "policies": [it.as_json() for it in tested],
            "assumptions": list(ASSUMPTIONS),
            "differing": list(wrong),
        },
        [
            *table([it.row() for it in tested], HEADER),
            "",
            *section("rollouts", rollout_rows(tested), None if len(tested) == 1 else 40),
            "",
            *(f"{it.policy}: {note}" for it in tested[1:] for note in it.played.notes),
            *(f"{it.file}: {_left_out(it)}" for it in revisions if it.misfits),
            f"assumed: {'; '.join(ASSUMPTIONS)}",
        ],
    )


def _played(
    recording: Recording, start: LogStart, revise: Revise = lambda taken: taken
) -> BackTest:
    state = Replay(start).state
    return Play(recording, state, SystemZones(), revise).run()


def read_policy(file: Path) -> CheckedFleet:
    """Return the declaration in `file`. Raises: Findings."""
    try:
        return check(file)
    except DeclarationError as error:
        raise Findings(*lines_of(error)) from error


def require_same_fleet(revision: Revision) -> None:
    """Return if the policy, which was played, was that of some rollout. Raises: Findings."""
    if revision.misfits and not revision.revised:
        rollout_id, why = next(iter(revision.misfits.items()))
        raise Findings(
            f"{revision.file}: expected a declaration of the fleet of this log, found {why}, which {rollout_id} has"
        )


def _left_out(revision: Revision) -> str:
    count = len(revision.misfits)
    rollout_id, why = next(iter(revision.misfits.items()))
    which = "1 rollout keeps" if count == 1 else f"{count} rollouts keep"
    return f"{which} the recorded policy: {why}, which {rollout_id} has"
