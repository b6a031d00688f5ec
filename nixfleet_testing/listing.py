"""The transition tables, listed from what the code really does: every state × fact × side and policy.

`python -m nixfleet_testing.listing --write tests/golden` writes them; a change of behaviour is then
a diff to be read. Nothing is decided here: each line is an answer of `step` or `step_rollout`.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import attrs
from attrs import AttrsInstance, evolve, frozen

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    OnHealthFailure,
    ProbeFailureFirst,
    ProbeMode,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
    RollbackComplete,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.effect import EmitMetric, HostEffect
from nixfleet_state_machine.host.errors import InvariantViolation, TransitionError
from nixfleet_state_machine.host.event import Local, Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.replay import replay_host, replay_rollout
from nixfleet_state_machine.rollout.effect import RolloutEffect
from nixfleet_state_machine.rollout.errors import RolloutTransitionError
from nixfleet_state_machine.rollout.event import (
    HostJoined,
    HostStateChanged,
    OperatorClearance,
    RetentionExpired,
    RolloutEvent,
    RolloutOpened,
    RolloutTerminal,
    SuccessorOpened,
    WaveAdvanced,
)
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord

BEFORE = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
AT = BEFORE + timedelta(minutes=10)
SOAK_DUE = BEFORE + timedelta(minutes=5)
ROLLOUT = RolloutId("stable@a1b2")
SUCCESSOR = RolloutId("stable@c3d4")

HEADER = """\
# Every move the code makes. Made by `python -m nixfleet_testing.listing --write tests/golden`.
# `at` is the time of what happened, `before` an earlier one.
"""
_TIMES = {BEFORE: "before", AT: "at"}


@frozen
class Outcome:
    """What came of one fact or event: `head` says whereto or why not, `details` what else."""

    head: str
    details: tuple[str, ...] = ()


def main(arguments: list[str]) -> None:
    """Print both listings, or write them into the directory that follows `--write`."""
    parser = argparse.ArgumentParser(prog="python -m nixfleet_testing.listing")
    parser.add_argument("--write", type=Path, metavar="DIRECTORY")
    directory: Path | None = parser.parse_args(arguments).write
    for name, listing in listings().items():
        if directory is None:
            sys.stdout.write(listing)
        else:
            directory.joinpath(name).write_text(listing, encoding="utf-8")


def listings() -> Mapping[str, str]:
    """Return the listings by the name of their golden file."""
    return {
        "host_transitions.txt": "\n".join((HEADER, *map(_host_section, _situations().items()))),
        "rollout_transitions.txt": "\n".join((HEADER, *map(_rollout_section, _rollouts().items()))),
    }


def _situations() -> Mapping[str, HostRolloutState]:
    """The states, each reached by facts; Soaking thrice, for what its probes decide."""
    pending = HostRolloutState.pending(ROLLOUT, "web-01", "stable", "target", BEFORE, SOAK_DUE)
    activating = _after(pending, DispatchAck("prior", BEFORE, 0))
    silent = _after(activating, ActivationCompleted("target", 0, BEFORE, 0), _topology(BEFORE))
    soaking = _after(silent, _probe_result(ProbeStatus.PASS, BEFORE))
    failing = _after(
        soaking,
        ProbeObservedFirst("nginx", ProbeMode.ENFORCE, BEFORE, 0),
        ProbeFailureFirst("nginx", ProbeMode.ENFORCE, BEFORE, 0),
        _probe_result(ProbeStatus.FAIL, BEFORE),
    )
    failed = _after(activating, ActivationFailed(1, "boom", BEFORE, 0))
    return {
        "Pending": pending,
        "Activating": activating,
        "Deferred": _after(activating, ActivationDeferred("kernel", BEFORE, 0)),
        "Soaking, the declared probe silent": silent,
        "Soaking, the declared probe passing": soaking,
        "Soaking, the declared probe failing": failing,
        "Converged": _after(soaking, Converged(SOAK_DUE, "target", 0)),
        "Failed": failed,
        "Reverted": _after(failed, RollbackComplete("prior", 0, BEFORE, 0)),
    }


def _facts() -> Mapping[str, AgentEvent]:
    return {
        "DispatchAck": DispatchAck("prior", AT, 0),
        "ActivationStarted": ActivationStarted(AT, "systemd-run", 0),
        "ActivationCompleted": ActivationCompleted("target", 0, AT, 0),
        "ActivationFailed": ActivationFailed(1, "boom", AT, 0),
        "ActivationDeferred": ActivationDeferred("kernel", AT, 0),
        "ProbeTopologyDeclared": _topology(AT),
        "ProbeObservedFirst": ProbeObservedFirst("nginx", ProbeMode.ENFORCE, AT, 0),
        "ProbeResult, pass": _probe_result(ProbeStatus.PASS, AT),
        "ProbeResult, fail": _probe_result(ProbeStatus.FAIL, AT),
        "ProbeFailureFirst": ProbeFailureFirst("nginx", ProbeMode.ENFORCE, AT, 0),
        "Failed, halt": _failed(OnHealthFailure.HALT),
        "Failed, rollback-and-halt": _failed(OnHealthFailure.ROLLBACK_AND_HALT),
        "RollbackComplete, exit 0": RollbackComplete("prior", 0, AT, 0),
        "RollbackComplete, exit 1": RollbackComplete("prior", 1, AT, 0),
        "Converged": Converged(AT, "target", 0),
        "Converged, another closure": Converged(AT, "other", 0),
        "Converged, before soak is due": Converged(BEFORE, "target", 0),
    }


def _topology(at: datetime) -> ProbeTopologyDeclared:
    return ProbeTopologyDeclared((ProbeTopologyEntry("nginx", "http", ProbeMode.ENFORCE),), at, 0)


def _probe_result(status: ProbeStatus, at: datetime) -> ProbeResult:
    reason = "HTTP 503" if status is ProbeStatus.FAIL else None
    return ProbeResult("nginx", ProbeMode.ENFORCE, status, at, reason, seq=0)


def _failed(policy: OnHealthFailure) -> Failed:
    return Failed(AT, 60, ("nginx",), policy, 0)


def _after(record: HostRolloutState, *facts: AgentEvent) -> HostRolloutState:
    for fact in facts:
        record = replay_host(record, [(_next(record, fact), AT)], RolloutPolicy())
    return record


def _next(record: HostRolloutState, fact: AgentEvent) -> AgentEvent:
    return evolve(fact, seq=record.last_event_seq + 1)


def _host_section(situation: tuple[str, HostRolloutState]) -> str:
    title, record = situation
    outcomes: dict[str, Outcome] = {}
    for label, fact in _facts().items():
        outcomes |= _by_policy(label, record, _next(record, fact))
    late = {_host_outcome(record, fact, OnHealthFailure.HALT).head for fact in _facts().values()}
    return (
        _section(title, outcomes)
        + f"  {' or '.join(sorted(late))}: whatever is not later than the last fact\n"
    )


def _by_policy(label: str, record: HostRolloutState, fact: AgentEvent) -> Mapping[str, Outcome]:
    outcomes = {policy: _host_outcome(record, fact, policy) for policy in OnHealthFailure}
    if len(set(outcomes.values())) == 1:
        return {label: outcomes[OnHealthFailure.HALT]}
    return {f"{label}, the manifest says {policy}": outcomes[policy] for policy in outcomes}


def _host_outcome(
    record: HostRolloutState, fact: AgentEvent, on_failure: OnHealthFailure
) -> Outcome:
    policy = RolloutPolicy(on_health_failure=on_failure)
    try:
        after, local = step(record, Local(fact), AT, policy)
        _, remote = step(record, Remote(fact), AT, policy)
    except InvariantViolation as error:
        return Outcome(f"breaks rule {error.rule}")
    except TransitionError as error:
        return Outcome(type(error).__name__)
    return Outcome(
        f"{record.state} -> {after.state}",
        (
            f"sets     {_changes(record, after)}",
            f"local    {_listed(local)}",
            f"remote   {_listed(remote)}",
            # Once, when both sides say the same.
            f"metrics  {' / '.join(dict.fromkeys((_metrics(local), _metrics(remote))))}",
        ),
    )


def _rollouts() -> Mapping[str, RolloutRecord]:
    """The states, each reached by events."""
    opening = open_rollout(RolloutOpened(ROLLOUT, "stable", "a1b2", BEFORE), 1, ())
    active = _then(opening, HostJoined(ROLLOUT, "web-01", 0, BEFORE))
    second_wave = _then(active, WaveAdvanced(ROLLOUT, 0, 1, BEFORE))
    return {
        "Opening": opening,
        "Active, wave 1": second_wave,
        "Converging, wave 1": _then(second_wave, WaveAdvanced(ROLLOUT, 1, 1, BEFORE)),
        "Terminal": _then(active, RolloutTerminal(ROLLOUT, BEFORE)),
        "Reverted": _then(active, _host_now(HostState.REVERTED, BEFORE)),
        "Failed": _then(active, _host_now(HostState.FAILED, BEFORE)),
        "Superseded": _then(active, SuccessorOpened(ROLLOUT, SUCCESSOR, BEFORE)),
        "Pruned": _then(
            active, RolloutTerminal(ROLLOUT, BEFORE), RetentionExpired(ROLLOUT, BEFORE)
        ),
    }


def _rollout_events() -> Mapping[str, RolloutEvent]:
    return {
        "RolloutOpened": RolloutOpened(ROLLOUT, "stable", "a1b2", AT),
        "HostJoined": HostJoined(ROLLOUT, "web-02", 2, AT),
        **{f"HostStateChanged, to {state}": _host_now(state, AT) for state in HostState},
        "WaveAdvanced, 1 to 2": WaveAdvanced(ROLLOUT, 1, 2, AT),
        "WaveAdvanced, 0 to 1": WaveAdvanced(ROLLOUT, 0, 1, AT),
        "WaveAdvanced, 1 to 1": WaveAdvanced(ROLLOUT, 1, 1, AT),
        "WaveAdvanced, 1 to 0": WaveAdvanced(ROLLOUT, 1, 0, AT),
        "RolloutTerminal": RolloutTerminal(ROLLOUT, AT),
        "SuccessorOpened": SuccessorOpened(ROLLOUT, SUCCESSOR, AT),
        "RetentionExpired": RetentionExpired(ROLLOUT, AT),
        "OperatorClearance": OperatorClearance(
            ROLLOUT, "alice", "disk replaced", frozenset({"web-01"}), AT
        ),
        "RolloutTerminal of another rollout": RolloutTerminal(SUCCESSOR, AT),
    }


def _host_now(state: HostState, at: datetime) -> HostStateChanged:
    return HostStateChanged(ROLLOUT, "web-01", HostState.SOAKING, state, at)


def _then(record: RolloutRecord, *events: RolloutEvent) -> RolloutRecord:
    return replay_rollout(record, [(event, BEFORE) for event in events])


def _rollout_section(situation: tuple[str, RolloutRecord]) -> str:
    title, record = situation
    outcomes = {
        label: _rollout_outcome(record, event) for label, event in _rollout_events().items()
    }
    return _section(title, outcomes)


def _rollout_outcome(record: RolloutRecord, event: RolloutEvent) -> Outcome:
    try:
        after, effects = step_rollout(record, event, AT)
    except RolloutTransitionError as error:
        return Outcome(type(error).__name__)
    if after == record and not effects:
        return Outcome("no change")
    return Outcome(
        f"{record.state} -> {after.state}",
        (f"sets     {_changes(record, after)}", f"effects  {_listed(effects)}"),
    )


def _section(title: str, outcomes: Mapping[str, Outcome]) -> str:
    """Show what moves one by one, and what does not by the reason why."""
    return "\n".join((title, *_moves(outcomes), *_rest(outcomes), ""))


def _moves(outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    for label, outcome in outcomes.items():
        if outcome.details:
            yield f"  {label}: {outcome.head}"
            yield from (f"    {detail}" for detail in outcome.details)


def _rest(outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    labels_of: dict[str, list[str]] = {}
    for label, outcome in outcomes.items():
        if not outcome.details:
            labels_of.setdefault(outcome.head, []).append(label)
    for head, labels in labels_of.items():
        yield f"  {head}: {', '.join(_gathered(labels, outcomes))}"


def _gathered(labels: Iterable[str], all_labels: Iterable[str]) -> Iterator[str]:
    """Yield each kind once, with its variants if not all of them are among `labels`."""
    some, every = _variants(labels), _variants(all_labels)
    for kind, variants in some.items():
        yield kind if variants == every[kind] else f"{kind} ({', '.join(variants)})"


def _variants(labels: Iterable[str]) -> Mapping[str, list[str]]:
    variants: dict[str, list[str]] = {}
    for label in labels:
        kind, _, variant = label.partition(", ")
        variants.setdefault(kind, []).append(variant or "plain")
    return variants


def _changes(before: AttrsInstance, after: AttrsInstance) -> str:
    """The fields that differ; what every fact sets, and the state shown already, left out."""
    told = ("state", "last_event_seq")
    names = [field.name for field in attrs.fields(type(after)) if field.name not in told]
    changed = [name for name in names if getattr(before, name) != getattr(after, name)]
    return ", ".join(f"{name}={_shown(getattr(after, name))}" for name in changed) or "nothing"


def _listed(effects: Iterable[HostEffect | RolloutEffect]) -> str:
    orders = [effect for effect in effects if not isinstance(effect, EmitMetric)]
    return ", ".join(map(_shown, orders)) or "nothing"


def _metrics(effects: Iterable[HostEffect]) -> str:
    metrics = (effect for effect in effects if isinstance(effect, EmitMetric))
    return ", ".join(f"{m.name}{_shown(m.labels)}={m.value}" for m in metrics) or "nothing"


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return _TIMES.get(value, value.isoformat())
    if isinstance(value, Mapping):
        items = cast(Mapping[str, object], value)
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in items.items()) + "}"
    if isinstance(value, frozenset):
        return _shown(tuple(sorted(cast(frozenset[str], value))))
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_shown, cast(Iterable[object], value))) + ")"
    if attrs.has(type(value)):
        return _shown_object(cast(AttrsInstance, value))
    return str(value)


def _shown_object(value: AttrsInstance) -> str:
    """By name, without what is plain from the line: whose it is, and the fact passed on."""
    told = ("rollout_id", "host", "payload", "fields")
    names = [field.name for field in attrs.fields(type(value)) if field.name not in told]
    shown = ", ".join(f"{name.rstrip('_')}={_shown(getattr(value, name))}" for name in names)
    return f"{type(value).__name__}({shown})"


if __name__ == "__main__":
    main(sys.argv[1:])
