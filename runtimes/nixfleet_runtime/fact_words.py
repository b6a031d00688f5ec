"""What a host's facts say, in words: for the log of the control plane, and for the agent's own. Pure.

Closures are shortened. Text from hosts is not escaped here: whatever prints a sentence escapes it.
"""

from typing import Final, assert_never

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    Postponed,
    ProbeFailureFirst,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    Recalled,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.codec import format_time

DIGEST_LENGTH_SHOWN: Final = 8


def short(closure: str) -> str:
    """Return the name of a closure with its hash cut to 8 characters."""
    digest, dash, name = closure.partition("-")
    return f"{digest[:DIGEST_LENGTH_SHOWN]}{dash}{name}"


def is_routine(fact: AgentEvent, known: ProbeStatus | None) -> bool:
    """Return whether a fact only repeats a known result of a probe.

    known: the result that its probe had before; `None`, if it had none, or the fact is about no probe.
    """
    if isinstance(fact, ProbeObservedFirst | ProbeFailureFirst):
        return True  # The result itself comes next, or came just before.
    return isinstance(fact, ProbeResult) and known is fact.status


def fact_words(fact: AgentEvent) -> str:
    """Return what a fact says, as a sentence whose subject is its host. Its texts are not escaped."""
    match fact:
        case DispatchAck():
            which = "" if fact.attempt is None else f" for attempt {fact.attempt}"
            return f"accepts the dispatch{which}; runs {short(fact.current_closure_at_dispatch)}"
        case ActivationStarted():
            return f"starts to switch (method: {fact.switch_method})"
        case ActivationCompleted():
            units = " ".join(fact.failed_units or ())
            failed = f"; units that failed: {units}" if units else ""
            return f"has switched to {short(fact.observed_current_closure)}{failed}"
        case ActivationFailed():
            return f"failed to switch (exit code {fact.exit_code}): {fact.stderr_tail.strip()}"
        case ActivationDeferred():
            return f"will switch at its next reboot: {fact.component} cannot be switched live"
        case ProbeTopologyDeclared():
            probes = ", ".join(
                f"{each.probe_name} ({each.kind}, {each.mode})" for each in fact.probes
            )
            return f"declares its probes: {probes or 'none'}"
        case ProbeObservedFirst():
            return f"reports the first result of probe {fact.probe_name}"
        case ProbeResult():
            return _probe_result(fact)
        case ProbeFailureFirst():
            return f"reports the first failure of probe {fact.probe_name}"
        case Failed():
            probes = ", ".join(fact.failing_probes)
            lasted = f"{fact.sustained_duration_secs} s"
            return f"has failed: {probes} failing for {lasted}; policy: {fact.policy_applied}"
        case RollbackComplete():
            closure = short(fact.reverted_to_closure)
            why = f": {fact.failure_reason}" if fact.failure_reason else ""
            if fact.exit_code == 0:
                return f"has rolled back to {closure}{why}"
            return f"failed to roll back (exit code {fact.exit_code}); runs {closure}{why}"
        case Converged():
            return f"has converged on {short(fact.current_closure)}"
        case Recalled():
            return f"is recalled by order {fact.order_id}"
        case Postponed():
            if fact.is_over:
                return f"is not postponed any more: {fact.reason}"
            return f"postpones until {format_time(fact.until)}: {fact.reason}"
        case Regressed():
            probes = ", ".join(fact.failing_probes)
            lasted = f"{fact.sustained_duration_secs} s"
            return f"had converged and fails: {probes} failing for {lasted}; policy: {fact.policy_applied}"
        case _:
            assert_never(fact)


def _probe_result(fact: ProbeResult) -> str:
    if fact.status is ProbeStatus.PASS:
        return f"passes probe {fact.probe_name}"
    return (
        f"fails probe {fact.probe_name} ({fact.mode}): {fact.failure_reason or 'no reason given'}"
    )
