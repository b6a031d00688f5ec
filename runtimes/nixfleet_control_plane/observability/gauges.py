"""The gauges of a control plane, read at every scrape. No label names a host, a rollout or a closure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

import nixfleet
from nixfleet_control_plane.http.metrics import Metrics
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_proto.checked import WordEnum
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.holds.hold import HoldKind
from nixfleet_state_machine.planner.pace.status import Shortage
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import RolloutState, Standing

S = TypeVar("S", bound=WordEnum)
_STANDINGS: Final = tuple(it for it in Standing if it is not Standing.COUNTED)


def register_gauges(
    metrics: Metrics, service: ControlPlaneService, *, has_database_version: bool
) -> None:
    """Register the gauges of a control plane. has_database_version: its store is SQLite's."""
    totals = service.totals
    program = nixfleet.__version__
    metrics.gauge_by(
        "nixfleet_program", "1, by the version of the program", "version", lambda: {program: 1}
    )
    if has_database_version:
        metrics.gauge(
            "nixfleet_database_version",
            "version of the database's format",
            lambda: DATABASE_FORMAT.version,
        )
    metrics.gauge("nixfleet_queue_length", "inputs in the queue", lambda: service.queue_length)
    metrics.gauge("nixfleet_log_head", "number of the last log row", lambda: totals().head_seq)
    metrics.gauge("nixfleet_enrolled_hosts", "enrolled hosts", lambda: totals().enrolled)
    metrics.gauge_by(
        "nixfleet_release_age_seconds",
        "time since the manifest in force was signed",
        "channel",
        lambda: {
            it.channel: (service.now() - it.signed_at).total_seconds() for it in service.in_force()
        },
    )
    metrics.gauge_by(
        "nixfleet_release_seconds_until_stale",
        "time until receivers refuse the manifest in force; negative: since then",
        "channel",
        lambda: {
            it.channel: (it.stale_at - service.now()).total_seconds() for it in service.in_force()
        },
    )
    notices = service.notices
    metrics.gauge(
        "nixfleet_artefacts_refused",
        "artefacts in the release directory that are refused",
        lambda: len(notices.refused_artefacts),
    )
    metrics.gauge(
        "nixfleet_left_out_at_start",
        "rollouts and rows of the database that the start could not load",
        lambda: len(notices.left_out),
    )
    metrics.gauge(
        "nixfleet_hosts_refusing",
        "hosts whose agent refuses to act on a dispatch or record, or waits for a closure",
        lambda: notices.refusing_hosts,
    )
    metrics.gauge(
        "nixfleet_enrollments_refused",
        "hosts whose enrollment was refused, at most 100",
        lambda: len(notices.refused_enrollments),
    )
    metrics.gauge_by(
        "nixfleet_hosts",
        "hosts in rollouts that are not superseded or pruned",
        "state",
        lambda: _by_state(HostState, service.hosts_by_state()),
    )
    metrics.gauge(
        "nixfleet_guards_open",
        "guards that hold a wave of which the wave before is done",
        service.guards_open,
    )
    metrics.gauge(
        "nixfleet_hosts_drifted",
        "hosts that run another closure than they converged to",
        lambda: totals().drifted,
    )
    metrics.gauge_by(
        "nixfleet_hosts_waiting",
        "hosts that wait for a dispatch, by the first gate that holds them",
        "gate",
        lambda: _by_state(Gate, service.waiting_by_gate()),
    )
    metrics.gauge_by(
        "nixfleet_hosts_overdue",
        "hosts that count and are past a deadline of which nothing follows, by its stage",
        "stage",
        lambda: _by_state(Stage, service.overdue_by_stage()),
    )
    metrics.gauge_by(
        "nixfleet_hosts_by_standing",
        "hosts of rollouts that are served, by the standing that they have in place of their state",
        "standing",
        lambda: _by_state(_STANDINGS, service.hosts_by_standing()),
    )
    metrics.gauge_by(
        "nixfleet_budgets_full",
        "budgets of live rollouts of which all slots of one kind are taken",
        "slots",
        lambda: _by_state(Shortage, service.budget_shortages()),
    )
    metrics.gauge(
        "nixfleet_warrants_relayed",
        "operators' warrants that are relayed",
        lambda: len(service.warrants()),
    )
    metrics.gauge(
        "nixfleet_hosts_to_go_back",
        "hosts that are to go back by a warrant and have not begun",
        lambda: sum(each.to_go for each in service.warrants()),
    )
    metrics.gauge_by(
        "nixfleet_holds",
        "holds that are on, by the kind of their source",
        "source",
        lambda: _by_state(HoldKind, Counter(hold.source.kind for hold in service.holds())),
    )
    metrics.gauge(
        "nixfleet_hosts_absent",
        "hosts that no wave waits for, because they were silent past a deadline or were skipped",
        lambda: service.wave_totals().absent,
    )
    metrics.gauge(
        "nixfleet_failures_tolerated",
        "hosts that count as failed in waves that may have failed hosts and are not broken",
        lambda: service.wave_totals().tolerated,
    )
    metrics.gauge_by(
        "nixfleet_rollouts",
        "rollouts",
        "state",
        lambda: _by_state(RolloutState, totals().rollouts),
    )


def register_shard_gauges(metrics: Metrics, service: ControlPlaneService) -> None:
    """Register the gauges of each shard, if there are several. Shards are few, and named by the configuration."""
    if len(service.shards()) == 1:
        return
    metrics.gauge_by(
        "nixfleet_shard_log_head",
        "number of the last log row of each shard",
        "shard",
        lambda: {it.name: it.head for it in service.shards()},
    )
    metrics.gauge_by(
        "nixfleet_shard_queue_length",
        "inputs in the queue of each shard",
        "shard",
        lambda: {it.name: it.queue_length for it in service.shards()},
    )


def _by_state(states: Iterable[S], counted: Mapping[S, int]) -> dict[str, float]:
    """Return a value for every state; 0 for a state that nothing is in."""
    return {state.value: counted.get(state, 0) for state in states}
