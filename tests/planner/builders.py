"""Small fleets for planner tests: terms from waves, views from terms, hosts by name and state."""

from collections.abc import Iterable, Mapping, Set
from datetime import UTC, datetime

from attrs import evolve

from nixfleet_proto.agent_event import ProbeTopologyEntry
from nixfleet_proto.fleet import Edge, Selector
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import Deadlines, Retry, Tolerance
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import (
    GateBlock,
    PlanAction,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.gates import Planning
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import BudgetTerms, RolloutTerms
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing
from nixfleet_state_machine.undo import UndoLog

NOW = datetime(2026, 5, 26, 12, 0, tzinfo=UTC)
_NO_DEADLINES, _NO_RETRY = Deadlines(), Retry()


def terms_of(
    rollout_id: str = "stable@a1",
    waves: Iterable[Iterable[str]] = (("web-1", "web-2"),),
    *,
    unstaged: Iterable[str] = (),
    soak_minutes: Iterable[int] = (),
    budgets: Iterable[BudgetTerms] = (),
    edges: Iterable[tuple[str, str]] = (),
    predecessors: Iterable[str] = (),
    allowed: Iterable[int] = (),
    deadlines: Deadlines = _NO_DEADLINES,
    retry: Retry = _NO_RETRY,
) -> RolloutTerms:
    """Return the terms of a rollout. edges: pairs of a gating and a gated host. Closures are `{ref}-{host}`.

    allowed: how many hosts of each wave may fail.
    """
    staged = {host: wave for wave, hosts in enumerate(waves) for host in hosts}
    id_ = RolloutId(rollout_id)
    return RolloutTerms(
        rollout_id=id_,
        channel=id_.channel,
        target_ref=id_.channel_ref,
        targets=FrozenMap({host: f"{id_.channel_ref}-{host}" for host in (*staged, *unstaged)}),
        wave_of=FrozenMap(staged),
        wave_soak_minutes=tuple(soak_minutes) or (0,) * (max(staged.values(), default=0) + 1),
        budgets=tuple(budgets),
        host_edges=tuple(Edge(gates, gated) for gates, gated in edges),
        predecessors=tuple(predecessors),
        wave_tolerances=tuple(map(Tolerance, allowed)),
        deadlines=deadlines,
        retry=retry,
    )


def budget(limit: int, *hosts: str, tag: str = "web") -> BudgetTerms:
    """Return a budget over the hosts with `tag`, which are `hosts`."""
    return BudgetTerms(Selector(tags=(tag,)), frozenset(hosts), limit)


def rollout_of(
    terms: RolloutTerms,
    state: RolloutState = RolloutState.ACTIVE,
    *,
    wave: int = 0,
    excused: Set[str] = frozenset(),
    standings: Mapping[str, Standing] = FrozenMap(),
    attempts: Mapping[str, int] = FrozenMap(),
) -> RolloutRecord:
    """Return the record of the rollout that `terms` are for."""
    return RolloutRecord(
        rollout_id=terms.rollout_id,
        channel=terms.channel,
        target_ref=terms.target_ref,
        state=state,
        current_wave=wave,
        opened_event_log_seq=1,
        last_transition_event_log_seq=1,
        opened_at=NOW,
        terminal_at=NOW if state is RolloutState.TERMINAL else None,
        superseded_at=NOW if state is RolloutState.SUPERSEDED else None,
        standings=FrozenMap({**dict.fromkeys(excused, Standing.EXCUSED), **standings}),
        attempts=FrozenMap(attempts),
    )


def host_of(
    terms: RolloutTerms,
    name: str,
    state: HostState = HostState.PENDING,
    *,
    declared: tuple[ProbeTopologyEntry, ...] | None = (),
) -> HostRolloutState:
    """Return the record of a host; one that is not Pending has acknowledged. declared: its probes."""
    pending = HostRolloutState.pending(
        terms.rollout_id, name, terms.channel, terms.targets[name], None, None
    )
    if state is HostState.PENDING:
        return pending
    return evolve(pending, state=state, dispatch_acked_at=NOW, declared_probes=declared)


def view_of(*rollouts: RolloutTerms, undo: UndoLog | None = None) -> FleetView:
    """Return a view in which each of `rollouts` is offered, open and Active, with all hosts Pending."""
    view = FleetView(undo or UndoLog())
    for terms in rollouts:
        view.offer(terms)
        open_rollout(view, terms)
    return view


def open_rollout(view: FleetView, terms: RolloutTerms) -> None:
    """Open the rollout as Active, with all hosts Pending."""
    view.open(rollout_of(terms), terms)
    for name in terms.targets:
        view.set_host(host_of(terms, name))


def put(view: FleetView, terms: RolloutTerms, **states: HostState) -> None:
    """Set hosts to states; names are spelled with `_` for `-`."""
    for name, state in states.items():
        view.set_host(host_of(terms, name.replace("_", "-"), state))


def carry_out(view: FleetView, actions: Iterable[PlanAction]) -> None:
    """Queue and withdraw dispatches, as an engine would."""
    for action in actions:
        if isinstance(action, QueueDispatch | WithdrawDispatch):
            is_queued = isinstance(action, QueueDispatch)
            view.set_queued(action.rollout_id, action.host, is_queued)


def planning(view: FleetView, quarantines: Mapping[str, Set[str]] | None = None) -> Planning:
    """Return what gates look at when a plan begins."""
    return Planning(view, quarantines or {})


def detail_of(block: GateBlock | None) -> str | None:
    """Return the detail of a block, which equality leaves out."""
    return None if block is None else block.detail
