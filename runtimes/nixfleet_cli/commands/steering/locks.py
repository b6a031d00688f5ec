"""`nixfleet operator override`: how an operator has hosts begin whose own lock says not now."""

import click

from nixfleet_cli.commands.steering.orders import expiry_option, send_warrant
from nixfleet_cli.commands.steering.session import Session, asks, reason_option
from nixfleet_cli.shared.commands import command
from nixfleet_proto.steering.warrant import ClosureRule


@command()
@click.argument("rollout", metavar="ROLLOUT")
@click.argument("hosts", metavar="HOSTS", nargs=-1, required=True)
@reason_option
@expiry_option
@asks("one object with command, rolloutId, orderId, hosts, expiresAt and reason")
def override(
    session: Session, rollout: str, hosts: tuple[str, ...], reason: str, expires_minutes: int
) -> None:
    """Override the locks of HOSTS: they take ROLLOUT without asking.

    The order is signed here with your key; each host verifies it against its own trust file, and obeys it once, for its
    next attempt in ROLLOUT. Everything else applies as ever: gates, budgets, windows and other holds. A host is told
    with its next heartbeat once its lock holds it, until the order expires.
    """
    send_warrant(session, "override", ClosureRule.TARGET, rollout, hosts, reason, expires_minutes)
