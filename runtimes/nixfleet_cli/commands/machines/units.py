"""`nixfleet units`: each service as a unit for systemd, with what it may do and nothing more."""

import click

from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Unusable
from nixfleet_units.units import Credential, UnitOptions, UnusableInUnit, unit_kinds, unit_of

_DEFAULTS = UnitOptions()


@command()
@click.argument("service", type=click.Choice(unit_kinds()))
@click.option(
    "--program",
    metavar="FILE",
    default=_DEFAULTS.program,
    show_default=True,
    help="The command nixfleet on the machine.",
)
@click.option("--config", metavar="FILE", help="The configuration on the machine.")
@click.option(
    "--credential",
    "credentials",
    metavar="NAME:FILE",
    multiple=True,
    help="A file that only root can read, for the service at /run/credentials/UNIT/NAME. May be given more than once.",
)
@click.option(
    "--no-sandbox",
    is_flag=True,
    help="Leave out what confines the service, for an agent whose commands need the rights of root.",
)
def units(
    service: str,
    program: str,
    config: str | None,
    credentials: tuple[str, ...],
    no_sandbox: bool,
) -> None:
    """Print the unit of a service for systemd.

    Write it to /etc/systemd/system/nixfleet-SERVICE.service. It sandboxes the service: "systemd-analyze security" gives
    the control plane and the notifier 1.2 and the agent 2.0, where 10 is no protection. The agent's sandbox is for
    NixOS, where all work is done outside of it. What other activators run in the agent needs the paths that it changes
    (ReadWritePaths= in a drop-in), or no sandbox.

    Exit codes: 0 success; 2 an option has a value that a unit cannot have.
    """
    try:
        given = tuple(_credential(each) for each in credentials)
        unit = unit_of(service, UnitOptions(program, config, given, not no_sandbox))
    except UnusableInUnit as error:
        raise Unusable(*error.problems) from error
    click.echo(unit.text, nl=False)


def _credential(text: str) -> Credential:
    name, separator, file = text.partition(":")
    if not separator:
        raise click.BadParameter(f"expected NAME:FILE, found {text!r}", param_hint="--credential")
    return Credential(name, file)
