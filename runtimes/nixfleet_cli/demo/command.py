"""`nixfleet demo`: its options and exit codes. What it does begins in `performance`."""

from pathlib import Path

import click

from nixfleet_cli.demo.declaration import HOSTS_MIN

_HOSTS_MAX = 50
_SPEED_DEFAULT = 60.0
_SPEED_MAX = 600.0
_EXIT_CODE_INTERRUPTED = 130


@click.command()
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Work in DIR, which must be new or empty, and leave everything there.",
)
@click.option(
    "--hosts",
    type=click.IntRange(HOSTS_MIN, _HOSTS_MAX),
    default=6,
    show_default=True,
    help="How many hosts the fleet has.",
)
@click.option(
    "--speed",
    type=click.FloatRange(1.0, _SPEED_MAX),
    default=_SPEED_DEFAULT,
    show_default=True,
    help="How many times as fast as the wall's the fleet's clock runs.",
)
@click.option(
    "--processes",
    "in_processes",
    is_flag=True,
    help="Run a control plane and agents as processes that talk over HTTP, and kill two of them on the way.",
)
@click.pass_context
def demo(
    context: click.Context, keep: Path | None, hosts: int, speed: float, in_processes: bool
) -> None:
    """Show three releases on a small fleet: one that works, one that does not, one that repairs it.

    Everything is real but the speed of the clock and, without --processes, the network: signed manifests, agents
    that switch directories, probes that ask a server of each host. Nothing outside a scratch directory is touched.

    Exit codes: 0 all ended as it should; 1 it did not, and where to look; 2 DIR cannot be used;
    130 interrupted, and nothing is left behind.
    """
    # Here, for the other commands must start without the libraries that only agents need.
    from nixfleet_cli.demo.performance import perform

    try:
        perform(keep, hosts, speed, in_processes=in_processes)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        context.exit(_EXIT_CODE_INTERRUPTED)
