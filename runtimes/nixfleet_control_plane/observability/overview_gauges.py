"""Gauges of what an overview shows: what needs a person, who waits longest, slots, and what comes next.

Read at every scrape; none costs more the more hosts there are. No label names a host, a rollout or a closure.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from nixfleet_control_plane.http.metrics import Metrics
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_runtime.http.overview import NeedKind
from nixfleet_state_machine.planner.action import Gate

TAKEN: Final = "taken"
LIMIT: Final = "limit"


def register_overview_gauges(metrics: Metrics, service: ControlPlaneService) -> None:
    """Register the gauges of a control plane."""
    metrics.gauge_by(
        "nixfleet_needs_person",
        "things that only a person moves, by their kind",
        "kind",
        lambda: _needs(service),
    )
    metrics.gauge_by(
        "nixfleet_oldest_wait_seconds",
        "for how long hosts have waited for one reason without a break, by gate; 0: nobody waits",
        "gate",
        lambda: _oldest_waits(service),
    )
    metrics.gauge(
        "nixfleet_quarantines",
        "closures that are barred from a channel",
        lambda: service.quarantine_count(),
    )
    metrics.gauge_by(
        "nixfleet_slots",
        "slots of the budgets of live rollouts: those that are taken, and all",
        "slots",
        lambda: _slots(service),
    )
    metrics.gauge(
        "nixfleet_next_edge_timestamp_seconds",
        "when a hold ends, a calendar begins or ends one, or a bake is over next; 0: not in sight",
        lambda: _next_edge(service),
    )


def _needs(service: ControlPlaneService) -> Mapping[str, float]:
    counts = Counter(need.kind for need in service.needs())
    return {kind.value: counts[kind] for kind in NeedKind}


def _oldest_waits(service: ControlPlaneService) -> Mapping[str, float]:
    now, since_of = service.now(), service.oldest_waits()
    return {
        gate.value: max((now - since_of[gate]).total_seconds(), 0) if gate in since_of else 0
        for gate in Gate
    }


def _slots(service: ControlPlaneService) -> Mapping[str, float]:
    budgets = service.live_budgets()
    return {
        TAKEN: sum(budget.in_flight for budget in budgets),
        LIMIT: sum(budget.limit for budget in budgets),
    }


def _next_edge(service: ControlPlaneService) -> float:
    at = service.next_edge()
    return 0.0 if at is None else at.timestamp()
