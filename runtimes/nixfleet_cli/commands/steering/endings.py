"""`nixfleet operator abort`: how an operator ends a rollout by hand."""

import click

from nixfleet_cli.commands.steering.session import (
    Session,
    asks,
    reason_option,
    rollout_ids,
    suggesting,
)
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Findings
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.commands import REASON, ReasonBody


@command()
@click.argument("rollout", metavar="ROLLOUT")
@reason_option
@asks("one object with command, rolloutId and reason")
def abort(session: Session, rollout: str, reason: str) -> None:
    """End ROLLOUT for good.

    No host is dispatched any more, and what is queued is withdrawn. Hosts that have begun finish, or fail, by their own
    policy. No clearance takes it back: only another release of the channel begins anything.
    """
    body = REASON.encode(ReasonBody(reason))
    value = {"command": "abort", "rolloutId": rollout, "reason": reason}
    try:
        session.command(paths.rollout_path(rollout, "/abort"), body, value, f"{rollout} is aborted")
    except Findings as error:
        raise suggesting(error, rollout, rollout_ids(session)) from error
