"""Judges a probe by its samples over the soak, where its declaration asks for more than the latest one. Pure.

A sample has a place in the soak: how long this process has seen it last, not what the clock shows. Samples of before a
restart are lost, so the window that is judged begins anew with the process, and is as long as ever.
Source: docs/spec/declarations.md, Healthy; docs/spec/runtimes.md, Convergence on the agent.
"""

from collections.abc import Iterator
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from attrs import evolve, frozen

from nixfleet_agent.engine.observation import Observed, Tally, soak_of
from nixfleet_agent.probes.runner import ProbeOutcome, failed
from nixfleet_proto.agent_event import ProbeMode, ProbeStatus
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import (
    INTERVAL_SECONDS_MIN,
    HealthCheck,
    HealthRule,
    health_rule_of,
    time_limit_seconds_of,
)
from nixfleet_state_machine.host.state import HostRolloutState

_NO_SAMPLES: Final = Tally()


class Verdict(Enum):
    """What the samples of a probe say. OPEN: the window is not over, or has too few samples."""

    OPEN = auto()
    HEALTHY = auto()
    UNHEALTHY = auto()


@frozen
class Window:
    """The part of a soak that is judged, from `begin` on, for `length`. samples_min: how many it must have."""

    begin: timedelta
    length: timedelta
    samples_min: int


def window_of(
    rule: HealthRule, check: HealthCheck, soak: timedelta, watched_from: timedelta
) -> Window:
    """Return the window of a probe. watched_from: the time of the soak that had passed when this process began.

    It must have as many samples as the probe takes at its slowest, at least one.
    """
    length = soak * rule.thirds / 3
    period_seconds = max(check.interval_seconds, INTERVAL_SECONDS_MIN) + time_limit_seconds_of(
        check
    )
    samples_min = max(1, int(length / timedelta(seconds=period_seconds)))
    return Window(max(soak - length, watched_from), length, samples_min)


def with_tally(
    observed: Observed,
    record: HostRolloutState,
    name: str,
    check: HealthCheck,
    status: ProbeStatus,
    place: timedelta,
) -> Observed:
    """Return `observed` after a sample of `name` at `place` of the soak."""
    rule = health_rule_of(check)
    if rule is None:
        return observed
    window = window_of(rule, check, soak_of(record), observed.watched_from)
    if place < window.begin:
        return observed
    before = observed.tallies.get(name, _NO_SAMPLES)
    passed = int(status is ProbeStatus.PASS)
    after = Tally(before.samples + 1, before.passes + passed)
    return evolve(observed, tallies=FrozenMap({**observed.tallies, name: after}))


def verdict(observed: Observed, record: HostRolloutState, name: str, check: HealthCheck) -> Verdict:
    """Return what the samples of `name` say by now."""
    rule = health_rule_of(check)
    if rule is None:
        return Verdict.HEALTHY
    window = window_of(rule, check, soak_of(record), observed.watched_from)
    tally = observed.tallies.get(name, _NO_SAMPLES)
    is_over = observed.soaked >= window.begin + window.length
    if not is_over or tally.samples < window.samples_min:
        return Verdict.OPEN
    is_healthy = tally.passes * 100 >= rule.passes_pct * tally.samples
    return Verdict.HEALTHY if is_healthy else Verdict.UNHEALTHY


def open_probe(observed: Observed, record: HostRolloutState, checks: HealthCheckSet) -> str | None:
    """Return an enforce probe that is not known to be healthy by its rule yet, `None` if all are."""
    for name, check in sorted(checks.items()):
        is_enforced = check.mode is ProbeMode.ENFORCE
        if is_enforced and verdict(observed, record, name, check) is not Verdict.HEALTHY:
            return name
    return None


def unhealthy_probes(
    observed: Observed, record: HostRolloutState, checks: HealthCheckSet
) -> Iterator[tuple[str, ProbeOutcome]]:
    """Yield each enforce probe that is unhealthy by its rule at the end of the soak, with the failure that says so."""
    for name, check in sorted(checks.items()):
        rule = health_rule_of(check)
        if rule is None or check.mode is not ProbeMode.ENFORCE:
            continue
        if verdict(observed, record, name, check) is Verdict.UNHEALTHY:
            tally = observed.tallies[name]
            part = "the soak" if rule.thirds == 3 else "the last third of the soak"
            expected = f"at least {rule.passes_pct}% of the samples in {part} to pass"
            yield name, failed(expected, f"{tally.passes} of {tally.samples}")
