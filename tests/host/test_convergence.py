"""The four rules that a convergence must satisfy, and who does not gate it."""

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import Converged, ProbeMode
from nixfleet_state_machine import HostRolloutState, HostState, InvariantViolation
from nixfleet_state_machine.host.convergence import first_broken_rule, soak_end_of
from nixfleet_state_machine.host.errors import ConvergenceRule
from tests.builders import (
    LATER,
    OTHER,
    SOAK_DUE,
    SOAK_END,
    TARGET,
    activation_completed,
    at,
    converged,
    deferred_host,
    probe_fail,
    probe_pass,
    soaking_host,
    told,
    topology,
)


def _refused(record: HostRolloutState, fact: Converged) -> InvariantViolation:
    with pytest.raises(InvariantViolation) as refusal:
        told(record, fact)
    return refusal.value


def test_converged_on_another_closure_is_refused() -> None:
    """A host converges on its target alone; the refusal names both closures."""
    refusal = _refused(soaking_host(), converged(closure=OTHER))

    assert refusal.rule is ConvergenceRule.CLOSURE_IS_TARGET
    assert (refusal.expected, refusal.found) == (TARGET, OTHER)


def test_converged_before_soak_is_due_is_refused() -> None:
    """Converged is refused while the soak window is open."""
    refusal = _refused(soaking_host(), converged(seconds=SOAK_DUE - 1))

    assert refusal.rule is ConvergenceRule.SOAK_ELAPSED
    assert str(refusal) == (
        "Converged breaks rule soak-elapsed: expected 2026-05-16T01:05:30+00:00 or later, "
        f"found 2026-05-16T01:04:59+00:00 (rollout stable@a1b2, host web-01, seq {LATER})"
    )


def test_converged_when_the_soak_is_just_due_is_accepted() -> None:
    """The soak is over at the very second it is due."""
    after, _ = told(soaking_host(), converged(seconds=SOAK_END))

    assert after.state is HostState.CONVERGED


def test_converged_without_a_due_time_is_accepted() -> None:
    """A record that knows no soak window does not wait for one."""
    unbound = evolve(soaking_host(), soak_due_at=None)
    after, _ = told(unbound, converged(seconds=31))

    assert after.state is HostState.CONVERGED


def test_converged_while_an_enforce_probe_fails_is_refused() -> None:
    """A failing enforce probe holds the host; the refusal says why it fails."""
    refusal = _refused(soaking_host(probe_fail()), converged())

    assert refusal.rule is ConvergenceRule.ENFORCE_PROBES_PASS
    assert (refusal.expected, refusal.found) == ("probe 'nginx' to pass", "HTTP 503")


def test_converged_while_one_of_two_enforce_probes_fails_is_refused() -> None:
    """Each enforce probe must pass by itself."""
    record = soaking_host(probe_pass(name="nginx"), probe_fail(name="disk"))

    assert _refused(record, converged()).rule is ConvergenceRule.ENFORCE_PROBES_PASS


def test_converged_after_an_enforce_probe_recovered_is_accepted() -> None:
    """Only the latest word of a probe counts."""
    after, _ = told(soaking_host(probe_fail(), probe_pass()), converged())

    assert after.state is HostState.CONVERGED


@pytest.mark.parametrize("mode", [ProbeMode.OBSERVE, ProbeMode.DISABLED])
def test_converged_while_a_probe_that_does_not_enforce_fails_is_accepted(
    mode: ProbeMode,
) -> None:
    """Observe and disabled probes never hold a host."""
    after, _ = told(soaking_host(probe_fail(mode=mode)), converged())

    assert after.state is HostState.CONVERGED


def test_converged_while_a_declared_enforce_probe_never_reported_is_refused() -> None:
    """What was declared to be enforced must have been seen."""
    refusal = _refused(soaking_host(topology(nginx=ProbeMode.ENFORCE)), converged())

    assert refusal.rule is ConvergenceRule.DECLARED_PROBES_REPORTED
    assert refusal.found == "none since the activation"


def test_converged_after_every_declared_probe_reported_is_accepted() -> None:
    """A declared probe holds the host until its first result."""
    record = soaking_host(topology(nginx=ProbeMode.ENFORCE), probe_pass())
    after, _ = told(record, converged())

    assert after.state is HostState.CONVERGED


def test_converged_while_a_declared_observe_probe_never_reported_is_accepted() -> None:
    """A probe that only observes is not waited for."""
    after, _ = told(soaking_host(topology(nginx=ProbeMode.OBSERVE)), converged())

    assert after.state is HostState.CONVERGED


def test_converged_without_a_declared_topology_is_accepted() -> None:
    """A missing topology holds no host; the wave gate waits for it."""
    after, _ = told(soaking_host(), converged())

    assert after.declared_probes is None
    assert after.state is HostState.CONVERGED


def test_a_new_activation_forgets_results_and_topology() -> None:
    """Probes of an earlier closure neither hold nor help the one that runs now."""
    seen = soaking_host(topology(nginx=ProbeMode.ENFORCE), probe_fail())
    before = evolve(deferred_host(), probes=seen.probes, declared_probes=seen.declared_probes)
    after, _ = told(before, activation_completed())

    assert not after.probes
    assert after.declared_probes is None


def test_several_broken_rules_name_the_first() -> None:
    """The rules are checked in the order they are written, so a refusal is the same each time."""
    refusal = _refused(soaking_host(probe_fail()), converged(seconds=0, closure=OTHER))

    assert refusal.rule is ConvergenceRule.CLOSURE_IS_TARGET


def test_an_agent_can_ask_before_it_says_converged() -> None:
    """The rule that would be broken is told without a fact; none when all four hold."""
    broken = first_broken_rule(soaking_host(), TARGET, at(SOAK_END - 1))

    assert broken is not None
    assert broken[0] is ConvergenceRule.SOAK_ELAPSED
    assert first_broken_rule(soaking_host(), TARGET, at(SOAK_END)) is None


def test_a_host_that_activates_late_soaks_as_long_as_every_other() -> None:
    """The window counts from the activation: `soak_due_at`, fixed in the queue, may have passed by then."""
    late = evolve(soaking_host(), activation_completed_at=at(7200))

    broken = first_broken_rule(late, TARGET, at(7200 + SOAK_DUE - 1))

    assert broken is not None
    assert broken[0] is ConvergenceRule.SOAK_ELAPSED
    assert first_broken_rule(late, TARGET, at(7200 + SOAK_DUE)) is None


def test_a_soak_ends_when_the_dispatch_says_at_the_earliest() -> None:
    """An activation dated before its dispatch, by a clock that is behind, shortens nothing."""
    early = evolve(soaking_host(), activation_completed_at=at(-60))

    assert soak_end_of(early) == at(SOAK_DUE)
