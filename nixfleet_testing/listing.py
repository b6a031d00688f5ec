"""The transition tables, listed from what the code really does: every state × fact × side and policy.

`python -m nixfleet_testing.listing --write tests/golden` writes them; a change of behaviour is then
a diff to be read. Nothing is decided here: each line is an answer of `step` or `step_rollout`.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeVar, cast

import attrs
from attrs import AttrsInstance, frozen

from nixfleet_proto.agent_event import AgentEvent, OnHealthFailure
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine.host.effect import EmitMetric, HostEffect
from nixfleet_state_machine.host.errors import InvariantViolation, TransitionError
from nixfleet_state_machine.host.event import Local, Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.rollout.effect import RolloutEffect
from nixfleet_state_machine.rollout.errors import RolloutTransitionError
from nixfleet_state_machine.rollout.event import OperatorClearance, RolloutEvent
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_testing.samples import (
    AT,
    BEFORE,
    ROLLOUT,
    after,
    facts,
    hosts,
    next_of,
    rollout_events,
    rollouts,
)

T = TypeVar("T")

HEADER = """\
# Every move the code makes. Made by `python -m nixfleet_testing.listing --write tests/golden`.
# `at` is the time of what happened, `before` an earlier one.
"""
_TIMES = {BEFORE: "before", AT: "at"}


@frozen
class Outcome:
    """The outcome of one fact or event. head: the new state or the reason of a refusal. details: other changes."""

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
        "host_transitions.txt": "\n".join((HEADER, *map(_host_section, _hosts().items()))),
        "rollout_transitions.txt": "\n".join(
            (HEADER, *map(_rollout_section, _titled(rollouts(), _ROLLOUTS).items()))
        ),
    }


# Which samples the listings show: those that a reducer answers in another way than the rest of their kind.
_HOSTS = {
    "pending": "Pending",
    "activating": "Activating",
    "deferred": "Deferred",
    "soaking, probe silent": "Soaking, the declared probe silent",
    "soaking, probe passing": "Soaking, the declared probe passing",
    "soaking, probe failing": "Soaking, the declared probe failing",
    "converged": "Converged",
    "failed by activation": "Failed",
    "reverted": "Reverted",
}
_FACTS = {
    "DispatchAck": "DispatchAck",
    "ActivationStarted": "ActivationStarted",
    "ActivationCompleted": "ActivationCompleted",
    "ActivationFailed": "ActivationFailed",
    "ActivationDeferred": "ActivationDeferred",
    "ProbeTopologyDeclared": "ProbeTopologyDeclared",
    "ProbeObservedFirst, enforce": "ProbeObservedFirst",
    "ProbeResult, enforce, pass": "ProbeResult, pass",
    "ProbeResult, enforce, fail": "ProbeResult, fail",
    "ProbeFailureFirst": "ProbeFailureFirst",
    "Failed, halt": "Failed, halt",
    "Failed, rollback-and-halt": "Failed, rollback-and-halt",
    "RollbackComplete": "RollbackComplete, exit 0",
    "RollbackComplete, exit code 1": "RollbackComplete, exit 1",
    "Converged": "Converged",
    "Converged, another closure": "Converged, another closure",
    "Converged, before soak is due": "Converged, before soak is due",
}
_ROLLOUTS = {
    "opening": "Opening",
    "active, wave 1": "Active, wave 1",
    "converging": "Converging, wave 1",
    "terminal": "Terminal",
    "reverted": "Reverted",
    "failed": "Failed",
    "superseded": "Superseded",
    "pruned": "Pruned",
}
_EVENTS = {
    "RolloutOpened": "RolloutOpened",
    "HostJoined": "HostJoined",
    **{f"HostStateChanged, to {state}": f"HostStateChanged, to {state}" for state in HostState},
    "WaveAdvanced, 1 to 2": "WaveAdvanced, 1 to 2",
    "WaveAdvanced, 0 to 1": "WaveAdvanced, 0 to 1",
    "WaveAdvanced, 1 to 1": "WaveAdvanced, 1 to 1",
    "WaveAdvanced, 1 to 0": "WaveAdvanced, 1 to 0",
    "RolloutTerminal": "RolloutTerminal",
    "SuccessorOpened": "SuccessorOpened",
    "RetentionExpired": "RetentionExpired",
    "OperatorClearance": "OperatorClearance",
    "RolloutTerminal, of another rollout": "RolloutTerminal of another rollout",
}


def _hosts() -> Mapping[str, HostRolloutState]:
    passing, past = hosts()["soaking, probe passing"], facts(BEFORE)
    # The listing shows that a second first observation is not noted: this probe was observed before it failed.
    failing = after(
        passing,
        past["ProbeObservedFirst, enforce"],
        past["ProbeFailureFirst"],
        past["ProbeResult, enforce, fail"],
    )
    return _titled({**hosts(), "soaking, probe failing": failing}, _HOSTS)


def _events() -> Mapping[str, RolloutEvent]:
    # The listing shows a clearance of the host that is in the rollout.
    excused = frozenset({"web-01"})
    clearance = OperatorClearance(ROLLOUT, "alice", "disk replaced", excused, AT)
    return _titled({**rollout_events(), "OperatorClearance": clearance}, _EVENTS)


def _titled(samples: Mapping[str, T], titles: Mapping[str, str]) -> Mapping[str, T]:
    """Return the samples that have a title: title to sample, in the order of `titles`."""
    return {title: samples[name] for name, title in titles.items()}


def _host_section(situation: tuple[str, HostRolloutState]) -> str:
    title, record = situation
    outcomes: dict[str, Outcome] = {}
    for label, fact in _titled(facts(), _FACTS).items():
        outcomes |= _by_policy(label, record, next_of(record, fact))
    late = {
        _host_outcome(record, fact, OnHealthFailure.HALT).head
        for fact in _titled(facts(), _FACTS).values()
    }
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


def _rollout_section(situation: tuple[str, RolloutRecord]) -> str:
    title, record = situation
    outcomes = {label: _rollout_outcome(record, event) for label, event in _events().items()}
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
    shown = ("state", "last_event_seq")
    names = [field.name for field in attrs.fields(type(after)) if field.name not in shown]
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
