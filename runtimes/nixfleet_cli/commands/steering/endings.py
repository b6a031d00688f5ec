"""`nixfleet operator abort`, `recall`: how an operator ends a rollout by hand."""

import click

from nixfleet_cli.commands.steering.orders import (
    expiry_option,
    send_warrant,
    warn_of_short_recall,
)
from nixfleet_cli.commands.steering.session import (
    Session,
    asks,
    reason_option,
    rollout_ids,
    suggesting,
)
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Findings
from nixfleet_proto.steering.warrant import ClosureRule
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


@command()
@click.argument("rollout", metavar="ROLLOUT")
@click.argument("hosts", metavar="[HOSTS]…", nargs=-1)
@reason_option
@expiry_option
@asks("one object with command, rolloutId, orderId, hosts, expiresAt and reason")
def recall(
    session: Session, rollout: str, hosts: tuple[str, ...], reason: str, expires_minutes: int
) -> None:
    """Take ROLLOUT back: HOSTS return to what they ran.

    Without HOSTS, all that took the release. The order is signed here with your key; each host verifies it against its
    own trust file, and goes back only to the closure that it noted itself when it was dispatched. The signed policy
    must say recall = "operator". The newest wave goes first, and budgets apply; pauses and windows do not. The rollout
    is aborted.
    """
    warn_of_short_recall(expires_minutes)
    send_warrant(session, "recall", ClosureRule.PRIOR, rollout, hosts, reason, expires_minutes)
