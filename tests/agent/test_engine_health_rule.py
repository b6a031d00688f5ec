"""Probes that are judged by their samples over the soak: what converges, what fails, and what a restart does."""

from collections.abc import Iterable
from datetime import timedelta

import pytest

from nixfleet_agent.activation.activator import SwitchCompleted
from nixfleet_agent.engine.engine import AgentEngine
from nixfleet_agent.engine.state import State
from nixfleet_agent.messages.inputs import Booted, ChecksLoaded, ProbeRan, SwitchEnded, Tick
from nixfleet_agent.probes.runner import PASSED
from nixfleet_proto.agent_event import Failed, OnHealthFailure, ProbeMode, ProbeResult, ProbeStatus
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import ExecProbe
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import FAILED, SOAK_MINUTES, LoneAgent

R1 = RolloutId("stable@r1")
PERIOD_SECONDS = 10
SAMPLES = SOAK_MINUTES * 60 // PERIOD_SECONDS
EVERY_THIRD_FAILS = "ppf" * (SAMPLES // 3)


def checks(healthy: str | None, mode: ProbeMode = ProbeMode.ENFORCE) -> HealthCheckSet:
    return HealthCheckSet(
        {
            "alive": ExecProbe(
                ("bin/alive",),
                timeout_secs=5,
                interval_seconds=PERIOD_SECONDS,
                healthy=healthy,
                mode=mode,
            )
        }
    )


def soaking(healthy: str | None, mode: ProbeMode = ProbeMode.ENFORCE) -> LoneAgent:
    """An agent whose host has just switched to a closure with this probe."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    agent.tell(ChecksLoaded(R1, checks(healthy, mode)))
    return agent


def sample(agent: LoneAgent, results: Iterable[str]) -> None:
    """Have the probe pass (`p`) or fail (`f`), once each period, with a tick after each."""
    for result in results:
        outcome = PASSED if result == "p" else FAILED
        agent.tell(ProbeRan(R1, "alive", outcome), after_seconds=PERIOD_SECONDS)
        agent.tell(Tick())


def restarted(agent: LoneAgent, healthy: str) -> LoneAgent:
    """The agent after a restart: its journal is what is left of it."""
    before, agent.state = agent.state, State("web-01")
    for rollout_id, rollout in before.rollouts.items():
        agent.state.rollouts.set(rollout_id, rollout)
    agent.engine = AgentEngine(agent.state)
    agent.tell(Booted("new"))
    agent.tell(ChecksLoaded(R1, checks(healthy)))
    return agent


@pytest.mark.parametrize("healthy", [None, "latest"])
def test_a_probe_that_flaps_converges_when_the_latest_sample_decides(healthy: str | None) -> None:
    """It never fails for the sustained time, and passes in the end."""
    agent = soaking(healthy)
    sample(agent, EVERY_THIRD_FAILS + "p")

    assert agent.record().state is HostState.CONVERGED


@pytest.mark.parametrize(
    ("healthy", "part", "passed"),
    [("last-third", "the last third of the soak", "7 of 11"), ("90%", "the soak", "20 of 30")],
)
def test_a_probe_that_flaps_fails_at_the_end_of_the_soak_by_its_rule(
    healthy: str, part: str, passed: str
) -> None:
    """The host is Failed with that probe among the failing ones, and its last result says why."""
    agent = soaking(healthy)
    sample(agent, EVERY_THIRD_FAILS[:-1])
    assert agent.record().state is HostState.SOAKING
    sample(agent, EVERY_THIRD_FAILS[-1])

    result, failed = agent.facts[-2:]
    pct = "100%" if healthy == "last-third" else healthy
    reason = f"expected at least {pct} of the samples in {part} to pass, found {passed}"
    assert isinstance(result, ProbeResult)
    assert (result.probe_name, result.status, result.failure_reason) == (
        "alive",
        ProbeStatus.FAIL,
        reason,
    )
    policy = OnHealthFailure.ROLLBACK_AND_HALT
    assert failed == Failed(agent.now, 0, ("alive",), policy, agent.record().last_event_seq)
    assert agent.record().state is HostState.FAILED


@pytest.mark.parametrize(
    ("healthy", "results", "state"),
    [
        ("last-third", "f" + "p" * 29, HostState.CONVERGED),
        ("last-third", "pf" * 9 + "p" * 12, HostState.CONVERGED),
        ("last-third", "p" * 19 + "f" + "p" * 10, HostState.FAILED),
        ("last-third", "p" * 28 + "fp", HostState.FAILED),
        ("90%", "fff" + "p" * 27, HostState.CONVERGED),
        ("90%", "ffff" + "p" * 26, HostState.FAILED),
        ("90%", "p" * 25 + "fff" + "pp", HostState.CONVERGED),
        ("100%", "f" + "p" * 29, HostState.FAILED),
    ],
)
def test_a_rule_looks_at_its_part_of_the_soak_and_no_other(
    healthy: str, results: str, state: HostState
) -> None:
    """The first two thirds do not count for the last third; each sample counts for a share, wherever it is."""
    agent = soaking(healthy)
    sample(agent, results)

    assert agent.record().state is state


def test_a_share_that_is_reached_still_needs_a_pass_at_the_end() -> None:
    """The host machine takes no convergence while the latest sample fails."""
    agent = soaking("90%")
    sample(agent, "p" * 29 + "f")
    assert agent.record().state is HostState.SOAKING
    sample(agent, "p")

    assert agent.record().state is HostState.CONVERGED


def test_a_probe_that_is_only_observed_fails_nobody() -> None:
    """Its rule is not asked."""
    agent = soaking("100%", ProbeMode.OBSERVE)
    sample(agent, EVERY_THIRD_FAILS)

    assert agent.record().state is HostState.CONVERGED


@pytest.mark.parametrize(("healthy", "more"), [("last-third", 10), ("90%", 30)])
def test_after_a_restart_the_window_begins_anew(healthy: str, more: int) -> None:
    """What was seen before it is lost: a host converges on as many samples as ever, and later."""
    agent = soaking(healthy)
    sample(agent, "p" * 29)
    restarted(agent, healthy)
    sample(agent, "p" * (more - 1))
    assert agent.record().state is HostState.SOAKING
    sample(agent, "p")

    assert agent.record().state is HostState.CONVERGED


def test_a_window_with_too_few_samples_decides_nothing() -> None:
    """A soak may be shorter than an interval, and an agent may be too slow: no sample is no success."""
    agent = soaking("last-third")
    agent.tell(ProbeRan(R1, "alive", PASSED))
    agent.tell(Tick(), after_seconds=SOAK_MINUTES * 60)
    assert agent.record().state is HostState.SOAKING
    # A probe that uses its whole time limit takes 6 samples in a third of the soak.
    sample(agent, "p" * 5)
    assert agent.record().state is HostState.SOAKING
    sample(agent, "p")

    assert agent.record().state is HostState.CONVERGED


@pytest.mark.parametrize("step", [timedelta(hours=3), timedelta(hours=-3)])
def test_a_clock_that_is_set_moves_no_sample(step: timedelta) -> None:
    """A sample that fails before the last third does not count, whatever the clock shows."""
    agent = soaking("last-third")
    sample(agent, "p" * 5 + "f" + "p" * 5)
    agent.step_clock(step.total_seconds())
    sample(agent, "p" * 25)
    if step < timedelta():
        # The signed end of the soak is a time of the clock.
        agent.step_clock(-step.total_seconds())
        sample(agent, "p")

    assert agent.record().state is HostState.CONVERGED
