"""Whether an operator's command can be carried out in the current state, and on which hosts. Pure: changes nothing.

Source: docs/spec/wire.md, Operator calls.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import assert_never

from nixfleet_control_plane.engine.operator_holds import (
    pause_objection,
    release_objection,
    resume_objection,
)
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ClearRollout,
    ExcuseHosts,
    OperatorCommand,
    PauseScope,
    PlaceHold,
    RelayWarrant,
    ReleaseHold,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
)
from nixfleet_proto.codec import format_time
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.holds.scope import (
    ChannelScope,
    FleetScope,
    GroupScope,
    HoldScope,
    HostScope,
    RolloutScope,
    WaveScope,
)
from nixfleet_state_machine.planner.passing_time import SILENT_AFTER
from nixfleet_state_machine.planner.verdict import waves_broken_without
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing


def command_objection(state: State, command: OperatorCommand, now: datetime) -> str | None:
    """Return why the command cannot be carried out, as a message for the operator; `None` if it can."""
    if not command.reason.strip():
        return "expected a reason, found none"
    if isinstance(command, ClearRollout | ExcuseHosts | SkipHosts | RetryHosts):
        why = state.lost.get(command.rollout_id)
        if why is not None:
            return f"{command.rollout_id} is held: {why}"
    match command:
        case PauseScope():
            return pause_objection(state, command.scope) or _unknown_scope(state, command.scope)
        case ResumeScope():
            return resume_objection(state, command)
        case PlaceHold():
            if command.until is not None and command.until <= now:
                return (
                    f"expected an end after {format_time(now)}, found {format_time(command.until)}"
                )
            return _unknown_scope(state, command.scope)
        case ReleaseHold():
            return release_objection(state, command)
        case ClearRollout():
            rollout = state.view.rollouts.get(command.rollout_id)
            if rollout is None:
                return f"no rollout {command.rollout_id} exists"
            if rollout.state is RolloutState.ABORTED:
                return f"{command.rollout_id} was aborted, which no clearance takes back; release another ref"
            if not rollout.state.is_clearable:
                return f"expected {command.rollout_id} to be Reverted or Failed, found {rollout.state.value}"
            return _objection_to_excused(state, rollout, command.excused_hosts)
        case RelayWarrant():
            return None  # `relay_objection` looks at it: that takes the trust file.
        case AbortRollout():
            return _objection_to_aborted(state, command.rollout_id)
        case ExcuseHosts():
            return _objection_to_hosts(state, command.rollout_id, command.hosts)
        case SkipHosts():
            return _objection_to_hosts(
                state, command.rollout_id, command.hosts
            ) or _objection_to_skipped(state, command.rollout_id, command.hosts, now)
        case RetryHosts():
            return _objection_to_retried(state, command)
        case RetireQuarantine():
            if command.closure in state.quarantines.get(command.channel, ()):
                return None
            return f"{command.closure} is not quarantined on {command.channel}"
        case _:
            assert_never(command)


def _unknown_scope(state: State, scope: HoldScope) -> str | None:
    if _exists(state, scope):
        return None
    return f"expected a channel, a rollout or a host (host:NAME), found {str(scope)!r}"


def _exists(state: State, scope: HoldScope) -> bool:
    match scope:
        case FleetScope():
            return True
        case ChannelScope():
            return scope.channel in state.view.offers
        case RolloutScope():
            return scope.rollout_id in state.view.rollouts
        case WaveScope():
            manifest = state.manifests.get(scope.rollout_id)
            return manifest is not None and scope.wave <= manifest.terms.last_wave
        case HostScope():
            return any(state.view.host(each, scope.hostname) for each in state.view.rollouts)
        case GroupScope():
            return False  # Made by calendars alone: an operator holds hosts or a channel.
        case _:
            assert_never(scope)


def _objection_to_aborted(state: State, rollout_id: RolloutId) -> str | None:
    rollout = state.view.rollouts.get(rollout_id)
    if rollout is None:
        return f"no rollout {rollout_id} exists"
    if rollout.state is RolloutState.ABORTED:
        return f"{rollout_id} is Aborted already"
    if not rollout.state.is_served:
        return f"expected {rollout_id} to be live or Terminal, found {rollout.state}"
    return None


def _objection_to_excused(
    state: State, rollout: RolloutRecord, excused: frozenset[str]
) -> str | None:
    rollout_id = rollout.rollout_id
    unknown = excused - state.view.terms(rollout_id).targets.keys()
    if unknown:
        # They would be subtracted from a count that does not include them.
        return f"expected hosts of {rollout_id}, found {_listed(unknown)}"
    missing = holding_hosts(state, rollout_id) - rollout.excused_hosts - excused
    if excused and missing:
        why = f"they failed, and would keep {rollout_id} halted for ever"
        return f"expected {_listed(missing)} too: {why}"
    return None


def _objection_to_hosts(
    state: State, rollout_id: RolloutId, hosts: frozenset[str], *, is_retry: bool = False
) -> str | None:
    """A retry may name no hosts, which stands for all, and is for the late hosts of a Terminal rollout too."""
    rollout = state.view.rollouts.get(rollout_id)
    if rollout is None:
        return f"no rollout {rollout_id} exists"
    if not (rollout.state.is_served if is_retry else rollout.state.is_live):
        wanted = "live or Terminal" if is_retry else "live"
        return f"expected {rollout_id} to be {wanted}, found {rollout.state.value}"
    if not hosts and not is_retry:
        return "expected hosts, found none"
    unknown = hosts - state.view.terms(rollout_id).targets.keys()
    return f"expected hosts of {rollout_id}, found {_listed(unknown)}" if unknown else None


def _objection_to_skipped(
    state: State, rollout_id: RolloutId, hosts: frozenset[str], now: datetime
) -> str | None:
    """A host that can be heard of would be given back at once; a wave may be broken without it."""
    for host in sorted(hosts):
        heard_at = state.heard_at(host)
        if heard_at is not None and now - heard_at <= SILENT_AFTER:
            wanted = int(SILENT_AFTER.total_seconds())
            seconds = int((now - heard_at).total_seconds())
            return (
                f"expected hosts that were silent for {wanted} s, found {host}, heard of {seconds} s ago: "
                "wait until it was, or excuse it"
            )
    broken = waves_broken_without(state.view, rollout_id, hosts)
    if broken:
        return f"nobody would be left to converge in wave {broken[0]}, which halts the rollout: excuse, or wait"
    return None


def _objection_to_retried(state: State, command: RetryHosts) -> str | None:
    rollout_id = command.rollout_id
    objection = _objection_to_hosts(state, rollout_id, command.hosts, is_retry=True)
    if objection is not None:
        return objection
    if state.view.rollouts[rollout_id].state is RolloutState.ABORTED:
        return f"{rollout_id} was aborted and dispatches no host; release another ref"
    may = retriable_hosts(state, rollout_id)
    if not command.hosts and not may:
        return f"expected failed hosts of {rollout_id} that may try again, found none"
    for host in sorted(command.hosts - may):
        return f"{host} cannot try again: {_why_not_retriable(state, rollout_id, host)}"
    return None


def _why_not_retriable(state: State, rollout_id: RolloutId, host: str) -> str:
    record, terms = state.view.host(rollout_id, host), state.view.terms(rollout_id)
    if record is None or not record.has_failed:
        found = "unheard of" if record is None else record.state.value
        return f"expected a host that failed, found it {found}"
    if not record.may_try_again:
        return "it is not back from its failure; a rollback is under way, or failed"
    if terms.targets[host] in state.quarantines.get(terms.channel, ()):
        return f"its closure is quarantined on {terms.channel}; retire the quarantine, or release another closure"
    if state.view.rollouts[rollout_id].attempt_of(host) > record.attempt:
        return f"attempt {record.attempt + 1} is ordered already"
    allowed = terms.retry.attempts
    return (
        f"it rolled back, and made {record.attempt} of the {allowed} attempts that were signed; "
        "release its closure under a new ref"
    )


def retriable_hosts(state: State, rollout_id: RolloutId) -> frozenset[str]:
    """Return the hosts of the rollout that failed and may try again.

    One that rolled back obeys no more attempts than its manifest allows.
    """
    terms, rollout = state.view.terms(rollout_id), state.view.rollouts[rollout_id]
    barred = state.quarantines.get(terms.channel, frozenset[str]())
    return frozenset(
        record.hostname
        for record in state.view.hosts_of(rollout_id)
        if record.has_failed
        and record.may_try_again
        and record.target_closure not in barred
        and rollout.attempt_of(record.hostname) == record.attempt
        and (record.state is HostState.FAILED or record.attempt < terms.retry.attempts)
    )


def by_next_attempt(
    state: State, rollout_id: RolloutId, hosts: Iterable[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the hosts by the number of their next attempt, both in order."""
    numbers: dict[int, list[str]] = {}
    for host in sorted(hosts):
        record = state.view.host(rollout_id, host)
        assert record is not None, host
        numbers.setdefault(record.attempt + 1, []).append(host)
    for number in sorted(numbers):
        yield number, tuple(numbers[number])


def holding_hosts(state: State, rollout_id: RolloutId) -> frozenset[str]:
    """Return the hosts for which a halted rollout would be halted still: those that failed or lapsed, and will not try
    again. A host that does not come is no failure, and is served once it is heard of.
    """
    rollout = state.view.rollouts[rollout_id]
    failed = {
        record.hostname
        for record in state.view.hosts_of(rollout_id)
        if record.state.is_failure and rollout.attempt_of(record.hostname) == record.attempt
    }
    lapsed = {host for host, it in rollout.standings.items() if it is Standing.LAPSED}
    return frozenset(failed | lapsed)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
