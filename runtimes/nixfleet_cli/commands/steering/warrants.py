"""`nixfleet operator warrants`: the orders that are relayed, and how far they are."""

from nixfleet_cli.commands.steering.session import Session, asks
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.output import Row, shown_time
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.listings import WARRANT_LIST, ListedWarrant
from nixfleet_runtime.kernel.clock import SystemClock


@command()
@asks(
    "one object for each warrant, with orderId, rolloutId, rule, operator, reason, issuedAt, expiresAt, toGo, going, "
    "refusing and hosts"
)
def warrants(session: Session) -> None:
    """List the orders that are relayed to hosts.

    With whose order it is and why, until when it is good, how many hosts are to go back yet, roll back, or refuse it.
    An order is relayed until its rollout is superseded or pruned.
    """
    found = session.read(paths.WARRANTS, WARRANT_LIST).warrants
    values = map(WARRANT_LIST.spelling.converter.unstructure, found)
    header = ("rollout", "order", "of", "until", "hosts", "to go", "going", "refuse", "reason")
    session.output.rows(values, map(_cells, found), header)


def _cells(warrant: ListedWarrant) -> Row:
    until = shown_time(warrant.expires_at)
    return (
        warrant.rollout_id,
        warrant.order_id,
        warrant.operator,
        f"expired {until}" if warrant.expires_at <= SystemClock().now() else until,
        f"{len(warrant.hosts)} named" if warrant.hosts else "all",
        str(warrant.to_go),
        str(warrant.going),
        str(warrant.refusing),
        warrant.reason,
    )
