"""`nixfleet release`: build, sign, compare, check and publish releases. One file for each thing that is done to one."""

from nixfleet_cli.commands.release.making import make
from nixfleet_cli.commands.release.planning import plan_release
from nixfleet_cli.commands.release.publishing import publish
from nixfleet_cli.commands.release.resigning import resign
from nixfleet_cli.commands.release.reviewing import check_, diff
from nixfleet_cli.shared.commands import group


@group()
def release() -> None:
    """Build, compare and check releases.

    A release is a directory of signed files that assign a closure to each host.
    """


release.add_command(make)
release.add_command(publish)
release.add_command(resign)
release.add_command(diff)
release.add_command(check_)
release.add_command(plan_release)
