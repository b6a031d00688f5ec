"""Relaying operators' warrants: which are taken, and which host gets one with its heartbeat.

The control plane verifies a warrant only to tell the operator at once what a host would refuse. It decides the order of
the hosts, and nothing else: newest wave first, within the budgets. Windows and holds hold no way back. A warrant that
overrides locks goes to the hosts that are locked.
Source: docs/spec/warrants.md, Who is told when.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, assert_never

from attrs import frozen

from nixfleet_control_plane.engine.host_record import is_to_go
from nixfleet_control_plane.engine.state import HostKey, State
from nixfleet_control_plane.messages.inputs import RelayWarrant
from nixfleet_proto.codec import DecodeError, format_time
from nixfleet_proto.codec.warrant import decode_signed_warrant, encode_signed_warrant
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import Recall
from nixfleet_proto.signing import VerifyError
from nixfleet_proto.signing.warrant import WarrantUnverified, verify_warrant
from nixfleet_proto.steering.warrant import ClosureRule, RecallStep, SignedWarrant, Warrant
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.transport import Heartbeat
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.holds.device import DEVICE
from nixfleet_state_machine.planner.holds.scope import HostScope
from nixfleet_state_machine.planner.passing_time import SILENT_AFTER
from nixfleet_state_machine.rollout.state import RolloutState

WARRANTS_MAX: Final = 8
"""How many warrants an answer to a heartbeat has at most; agents accept twice as many."""
WARRANTS_BYTES_MAX: Final = 768 * 1024
"""How long the warrants in an answer are together: agents take an answer of 1 MiB, and records are in it too."""
ROLLBACK_DURATION_MAX: Final = timedelta(hours=1)
"""For how long others wait for a rollback. That it failed is known in memory alone, and not after every start."""


def relay_objection(
    state: State, command: RelayWarrant, trust: TrustRoot | None, now: datetime
) -> str | None:
    """Return why the warrant is not relayed, as a message for the operator; `None` if it is."""
    if trust is None:
        return "this control plane has no trust file, and cannot tell whose the warrant is"
    try:
        signed = decode_signed_warrant(command.warrant.encode())
        warrant = verify_warrant(signed, trust, now).warrant
    except (DecodeError, WarrantUnverified, VerifyError) as error:
        return str(error)
    if warrant.operator != command.operator:
        return f"the warrant is of operator {warrant.operator!r}, and the request of {command.operator!r}"
    if warrant.rollout_id != command.rollout_id:
        return f"the warrant is for {warrant.rollout_id}, and the request for {command.rollout_id}"
    length = len(encode_signed_warrant(signed))
    if length > WARRANTS_BYTES_MAX:
        return (
            f"expected a warrant of at most {WARRANTS_BYTES_MAX} bytes, found {length}: sign several orders, each for "
            "some of the hosts"
        )
    known = state.warrants.get(warrant.order_id)
    if known is not None and state.is_over(known.warrant.rollout_id):
        return (
            f"order {warrant.order_id} was for {known.warrant.rollout_id}, which is over: hosts that obeyed it "
            "refuse it again, so sign another order"
        )
    if known is not None:
        return f"order {warrant.order_id} is relayed already"
    return _objection_in_rollout(state, warrant, now)


def _objection_in_rollout(state: State, warrant: Warrant, now: datetime) -> str | None:
    rollout_id = warrant.rollout_id
    rollout = state.view.rollouts.get(rollout_id)
    if rollout is None:
        return f"no rollout {rollout_id} exists"
    if not rollout.state.is_served:
        return f"expected {rollout_id} to be live or Terminal, found {rollout.state}: its hosts follow another one"
    unknown = set(warrant.hosts) - state.view.terms(rollout_id).targets.keys()
    if unknown:
        return f"expected hosts of {rollout_id}, found {', '.join(sorted(unknown))}"
    if warrant.rule is ClosureRule.TARGET:
        # It moves no machine to anything but what CI signed, so nothing has to grant it.
        if rollout.state is not RolloutState.ABORTED:
            return None
        return f"{rollout_id} is Aborted, and dispatches no host whatever its lock says: release another ref"
    granted = state.manifests[rollout_id].manifest.rollout_policy.recall
    if granted is not Recall.OPERATOR:
        return (
            f'the policy signed for {rollout_id} says recall = "never", so no host goes back by a warrant; release '
            "another closure, and abort this rollout"
        )
    return _objection_to_idle(state, warrant, now)


def _objection_to_idle(state: State, warrant: Warrant, now: datetime) -> str | None:
    """Return that a recall would move no host that the orders before it do not; `None`: it would, or it might."""
    known = next((it for it in _recalls_before(state, warrant) if now < it.expires_at), None)
    is_refused = any(each == warrant.rollout_id for each, _ in state.refusing_recall)
    if known is not None and not is_refused:
        return (
            f"nothing to do: order {known.order_id} of {known.operator} says so until "
            f"{format_time(known.expires_at)}; to have it last longer, sign one with a longer time until it expires"
        )
    records = [
        record
        for host in warrant.hosts or state.view.terms(warrant.rollout_id).targets
        if (record := state.view.host(warrant.rollout_id, host)) is not None
    ]
    if any(is_to_go(it) or _may_have_begun(state, warrant, it) for it in records):
        return None
    whom = f"of {', '.join(warrant.hosts)} none" if warrant.hosts else "no host"
    return (
        f"nothing to do: {whom} has {warrant.rollout_id} to go back from{_or_abort(state, warrant)}"
    )


def _or_abort(state: State, warrant: Warrant) -> str:
    """A recall aborts too, which may be what was wanted."""
    is_aborted = state.view.rollout(warrant.rollout_id).state is RolloutState.ABORTED
    return "" if is_aborted else "; abort the rollout to have no further host take it"


def _recalls_before(state: State, warrant: Warrant) -> Iterator[Warrant]:
    """Yield the recalls of the same rollout that are for all of its hosts, and have no shorter life."""
    for signed in relayed_warrants(state):
        known = signed.warrant
        if known.rule is not ClosureRule.PRIOR or known.rollout_id != warrant.rollout_id:
            continue
        are_all_in_it = not known.hosts or (warrant.hosts and warrant.names <= known.names)
        if are_all_in_it and _lifetime(warrant) <= _lifetime(known):
            yield known


def _lifetime(warrant: Warrant) -> timedelta:
    return warrant.expires_at - warrant.issued_at


def _may_have_begun(state: State, warrant: Warrant, record: HostRolloutState) -> bool:
    """Whether the host may have taken the release unheard: its dispatch is out, or was until the rollout was aborted.

    A host that is named was looked at by who names it: there a dispatch has to be out.
    """
    if record.state is not HostState.PENDING:
        return False
    is_out = state.view.queued_since(record.rollout_id, record.hostname) is not None
    return is_out or not warrant.hosts


def relayed_warrants(state: State) -> tuple[SignedWarrant, ...]:
    """Return the warrants of rollouts that are not over, in the order in which they were taken. O(warrants)."""
    return tuple(it for it in state.warrants.values() if not state.is_over(it.warrant.rollout_id))


@frozen
class RelayedWarrant:
    """A warrant that is relayed. to_go: hosts that are to go back yet, or that the lock holds which it overrides.

    going: hosts that roll back. refusing: of those that were told, the ones that refuse something of the rollout.
    """

    warrant: Warrant
    to_go: int
    going: int
    refusing: int


@frozen
class HostRecall:
    """An order to a host to go back, and how far the host is with it.

    awaited: a host of a later wave that is to be back before its turn comes; `None`: none holds it.
    """

    warrant: Warrant
    step: RecallStep
    awaited: str | None = None


def warrant_statuses(state: State) -> tuple[RelayedWarrant, ...]:
    """Return the warrants that are relayed, the oldest first, and how many hosts each still has.

    O(hosts that are to go back).
    """
    return tuple(_status(state, signed.warrant) for signed in relayed_warrants(state))


def recalls_of(state: State, hostname: str, now: datetime) -> tuple[HostRecall, ...]:
    """Return the orders that are for a host, in rollouts that it has a record in, the oldest first."""
    found = (
        (signed.warrant, state.view.host(signed.warrant.rollout_id, hostname))
        for signed in relayed_warrants(state)
        if signed.warrant.rule is ClosureRule.PRIOR and signed.warrant.is_for(hostname)
    )
    return tuple(_recall(state, it, record, now) for it, record in found if record is not None)


def _recall(state: State, warrant: Warrant, record: HostRolloutState, now: datetime) -> HostRecall:
    step = _step(state, warrant, record, now)
    if step is not RecallStep.WAITS:
        return HostRecall(warrant, step)
    wave = state.view.terms(record.rollout_id).wave_of.get(record.hostname, 0)
    return HostRecall(
        warrant, step, min(_later_hosts_to_go(state, warrant, wave, now), default=None)
    )


def _status(state: State, warrant: Warrant) -> RelayedWarrant:
    rollout_id = warrant.rollout_id
    if warrant.rule is ClosureRule.TARGET:
        hosts = warrant.hosts or state.view.terms(rollout_id).targets
        found = (state.view.host(rollout_id, host) for host in hosts)
        return RelayedWarrant(
            warrant, sum(it is not None and _is_locked(state, it) for it in found), 0, 0
        )
    left = [
        host for wave in state.ways_back_of(rollout_id) for host in wave if warrant.is_for(host)
    ]
    records = [state.view.host(rollout_id, host) for host in left]
    to_go = sum(record is not None and is_to_go(record) for record in records)
    refusing = sum((rollout_id, host) in state.refusing_recall for host in left)
    return RelayedWarrant(warrant, to_go, len(left) - to_go, refusing)


def _step(state: State, warrant: Warrant, record: HostRolloutState, now: datetime) -> RecallStep:
    key = record.rollout_id, record.hostname
    if record.is_rolling_back:
        return RecallStep.GOING
    if record.state is HostState.REVERTED:
        return RecallStep.BACK
    if not is_to_go(record):
        return RecallStep.STAYS
    if now >= warrant.expires_at:
        return RecallStep.EXPIRED
    if key in state.refusing_recall:
        return RecallStep.REFUSES
    return RecallStep.TOLD if key in state.going_back else RecallStep.WAITS


def note_recall_refusals(state: State, heartbeat: Heartbeat) -> None:
    """Note in which rollouts a host that was told to go back refuses something. A refusal does not say what of it."""
    refused = {refusal.rollout_id for refusal in heartbeat.refusals}
    for rollout_id in {signed.warrant.rollout_id for signed in relayed_warrants(state)}:
        key = rollout_id, heartbeat.hostname
        if key in state.going_back and rollout_id in refused:
            state.refusing_recall.add(key)
        else:
            state.refusing_recall.discard(key)


def hand_out_warrants(state: State, hostname: str, now: datetime) -> tuple[SignedWarrant, ...]:
    """Return the warrants for the answer to a host, as many as fit, and note that it was told.

    The oldest are first. What did not fit is first in the next answer, so that an order that the host refuses, which is
    relayed on, keeps no other one from it.
    """
    due = tuple(_warrants_for(state, hostname, now))
    last = state.last_handed_out.get(hostname)
    start = next((at + 1 for at, it in enumerate(due) if it.warrant.order_id == last), 0)
    found: list[SignedWarrant] = []
    room = WARRANTS_BYTES_MAX
    for signed in (*due[start:], *due[:start]):
        room -= state.warrant_lengths[signed.warrant.order_id]
        if room < 0 or len(found) == WARRANTS_MAX:
            break
        found.append(signed)
        if signed.warrant.rule is ClosureRule.PRIOR:
            state.going_back.add((signed.warrant.rollout_id, hostname))
    if len(found) < len(due):
        state.last_handed_out.set(hostname, found[-1].warrant.order_id)
    else:
        state.last_handed_out.discard(hostname)
    return tuple(found)


def _warrants_for(state: State, hostname: str, now: datetime) -> Iterator[SignedWarrant]:
    """Yield the warrants that the host is to have now. Each is relayed until its fact is known."""
    for signed in relayed_warrants(state):
        warrant = signed.warrant
        record = state.view.host(warrant.rollout_id, hostname)
        if record is None or now >= warrant.expires_at or not warrant.is_for(hostname):
            continue
        if _is_due(state, warrant, record, now):
            yield signed


def _is_due(state: State, warrant: Warrant, record: HostRolloutState, now: datetime) -> bool:
    rule = warrant.rule
    match rule:
        case ClosureRule.PRIOR:
            return is_to_go(record) and _has_turn(state, warrant, record, now)
        case ClosureRule.TARGET:
            # Its dispatch takes its turn as every other one: the order only has the lock not asked.
            return _is_locked(state, record)
        case _:
            assert_never(rule)


def _is_locked(state: State, record: HostRolloutState) -> bool:
    """Whether the host's own lock keeps it from beginning in the rollout."""
    held = state.view.holds.get(HostScope(record.hostname), DEVICE) is not None
    return held and (record.state is HostState.PENDING or record.may_try_again)


def _has_turn(state: State, warrant: Warrant, record: HostRolloutState, now: datetime) -> bool:
    rollout_id, hostname = record.rollout_id, record.hostname
    if (rollout_id, hostname) in state.going_back:
        return True
    wave = state.view.terms(rollout_id).wave_of.get(hostname, 0)
    # A host that is in flight has its slot. The budgets come first: fewer hosts are looked at.
    if not record.state.is_in_flight and _is_budget_full(state, rollout_id, hostname, now):
        return False
    return not any(True for _ in _later_hosts_to_go(state, warrant, wave, now))


def _later_hosts_to_go(state: State, warrant: Warrant, wave: int, now: datetime) -> Iterator[str]:
    """Yield the hosts of later waves that others wait for and that are not back yet, in no order.

    Looks at the hosts that took the release and did not leave it, which are few by the end, and not at whole waves.
    """
    rollout_id, names = warrant.rollout_id, warrant.names
    for left in state.ways_back_of(rollout_id)[wave + 1 :]:
        # Of the order's names and the hosts that are left, whichever are fewer are walked.
        of_order = min(left, names, key=len) if names else left
        for host in of_order:
            is_one = not names or (host in names and host in left)
            if is_one and _is_waited_for(state, (rollout_id, host), now):
                yield host


def _is_waited_for(state: State, key: HostKey, now: datetime) -> bool:
    """Whether the host has a way back before it, and is expected to go it now.

    Not waited for, since they might never be back: a host that is silent, one that is held for a contradiction (none of
    its facts is taken), one that refused the order, and one whose rollback failed or takes too long.
    """
    record, heard_at = state.view.host(*key), state.heard_at(key[1])
    if record is None or heard_at is None or now - heard_at > SILENT_AFTER:
        return False
    if key[1] in state.forked or key in state.refusing_recall:
        return False
    return is_to_go(record) or _goes_back(state, record, now)


def _goes_back(state: State, record: HostRolloutState, now: datetime) -> bool:
    if not record.is_rolling_back or (record.rollout_id, record.hostname) in state.rollback_failed:
        return False
    return record.failed_at is not None and now - record.failed_at <= ROLLBACK_DURATION_MAX


def _is_budget_full(state: State, rollout_id: RolloutId, hostname: str, now: datetime) -> bool:
    terms = state.view.terms(rollout_id)
    if not terms.budgets:
        return False
    going = [host for _, host in _still_going(state, now)]
    return any(
        state.view.in_flight_of(budget.name) + sum(host in budget.hosts for host in going)
        >= budget.limit
        for budget in (terms.budgets[place] for place in terms.budgets_of(hostname))
    )


def _still_going(state: State, now: datetime) -> Iterator[HostKey]:
    """Yield the hosts that were told to go back and are going, except those that are in flight by their state."""
    for key in state.going_back:
        record = state.view.host(*key)
        is_in_flight = record is not None and record.state.is_in_flight
        if not is_in_flight and _is_waited_for(state, key, now):
            yield key
