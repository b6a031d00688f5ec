"""`nixfleet demo`: its options and exit codes. What it does begins in `performance`."""

from pathlib import Path

import click

from nixfleet_cli.demo.declaration import HOSTS_MIN
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.output import note

_HOSTS_MAX = 50
_HOSTS_DEFAULT = 6
_SPEED_DEFAULT = 60.0
_SPEED_MAX = 600.0
_EXIT_CODE_INTERRUPTED = 130


@command()
@click.option(
    "--story",
    type=click.Choice(["releases", "real-fleet"]),
    default="releases",
    show_default=True,
    help="What to show: three releases, or a rollout that finishes on a fleet with faults.",
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
    default=_SPEED_DEFAULT,
    show_default=True,
    help="Speed-up of the fleet's clock over real time.",
)
@click.option(
    "--processes",
    "in_processes",
    is_flag=True,
    help="Run each side as a process over HTTP; two are killed.",
)
@click.pass_context
def demo(
    context: click.Context,
    story: str,
    keep: Path | None,
    hosts: int | None,
    speed: float,
    in_processes: bool,
) -> None:
    """Show a story on a small fleet.

    releases: the first of three works, the second fails and rolls back, the third repairs it. real-fleet: of thirty
    hosts two are off, one fails and is tolerated, one needs a second attempt; the rollout completes, and a host that
    comes late is served.

    Everything is real except the speed of the
    clock and, without --processes, the network: signed manifests, agents that switch directories, probes that ask a
    server of each host. Only a scratch directory is written.

    Exit codes: 0 everything ended as expected; 1 it did not, and where to look; 2 DIR cannot be used; 130 interrupted,
    nothing is left behind.
    """
    if story == "real-fleet" and (hosts is not None or in_processes):
        raise click.UsageError(
            "--story real-fleet has thirty hosts in one process: leave --hosts and --processes out"
        )
    # Imported here, so that the help starts without the runtimes.
    from nixfleet_cli.demo.performance import REAL_FLEET, perform, releases_plot

    plot = REAL_FLEET if story == "real-fleet" else releases_plot(hosts or _HOSTS_DEFAULT)

    try:
        perform(keep, plot, speed, in_processes=in_processes)
    except KeyboardInterrupt:
        note("interrupted")
        context.exit(_EXIT_CODE_INTERRUPTED)
