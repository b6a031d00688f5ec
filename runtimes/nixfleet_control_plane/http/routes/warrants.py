"""How the operators' routes list orders."""

from nixfleet_control_plane.engine.warrants import HostRecall, RelayedWarrant
from nixfleet_runtime.http.listings import ListedRecall, ListedWarrant


def listed_warrant(status: RelayedWarrant) -> ListedWarrant:
    """Return a warrant that is relayed as it is listed."""
    warrant = status.warrant
    return ListedWarrant(
        warrant.order_id,
        warrant.rollout_id,
        warrant.rule,
        warrant.operator,
        warrant.reason,
        warrant.issued_at,
        warrant.expires_at,
        status.to_go,
        status.going,
        status.refusing,
        warrant.hosts,
    )


def listed_recall(recall: HostRecall) -> ListedRecall:
    """Return an order to a host as its explanation has it."""
    warrant = recall.warrant
    return ListedRecall(
        warrant.rollout_id,
        warrant.order_id,
        warrant.operator,
        warrant.reason,
        warrant.expires_at,
        recall.step,
        recall.awaited,
    )
