"""From soak to rest: probes, convergence, sustained failure."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_agent.activation.activator import RollbackFinished, SwitchCompleted
from nixfleet_agent.messages.inputs import (
    Booted,
    ChecksLoaded,
    ChecksUnreadable,
    ProbeRan,
    RollbackEnded,
    StartProbes,
    SwitchEnded,
    Tick,
)
from nixfleet_agent.probes.runner import PASSED, ProbeOutcome, reportable
from nixfleet_proto.agent_event import (
    Converged,
    Failed,
    OnHealthFailure,
    ProbeFailureFirst,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeSubResult,
    ProbeTopologyDeclared,
    RollbackComplete,
)
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import ALIVE, LoneAgent, manifest_of, soaking_agent

R1 = RolloutId("stable@r1")
FAILED = ProbeOutcome(ProbeStatus.FAIL, "expected status 200, found 503")


def probe(agent: LoneAgent, outcome: ProbeOutcome, *, after_seconds: float = 0) -> None:
    agent.tell(ProbeRan(R1, "alive", outcome), after_seconds=after_seconds)


def test_the_topology_is_declared_before_probes_run() -> None:
    """The declaration comes with the checks, and only then do the probes start."""
    agent = soaking_agent()
    assert isinstance(agent.facts[-1], ProbeTopologyDeclared)
    assert agent.actions[-1] == StartProbes(R1, ALIVE)


def test_a_closure_without_checks_declares_an_empty_topology() -> None:
    """A closure without probes is declared as such, so that later waves need not wait for it."""
    agent = LoneAgent()
    agent.tell(agent.offered())
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    agent.tell(ChecksLoaded(R1, HealthCheckSet()))
    assert agent.record().declared_probes == ()


def test_checks_that_were_declared_are_not_declared_again() -> None:
    """After a restart they are read once more, and the facts about them are in the journal already."""
    agent = soaking_agent()
    agent.facts.clear()
    agent.tell(ChecksLoaded(R1, ALIVE))
    assert agent.facts == []


def test_the_first_result_of_a_probe_is_marked_as_first() -> None:
    """A probe's first run is two facts, every later one is one."""
    agent = soaking_agent()
    agent.facts.clear()
    probe(agent, PASSED)
    probe(agent, PASSED)
    assert [type(fact) for fact in agent.facts] == [ProbeObservedFirst, ProbeResult, ProbeResult]


def test_the_first_failure_is_marked_as_first() -> None:
    """The first failure of a rollout is kept for the record."""
    agent = soaking_agent()
    agent.facts.clear()
    probe(agent, PASSED)
    probe(agent, FAILED)
    probe(agent, FAILED)
    assert [type(fact) for fact in agent.facts[2:]] == [ProbeFailureFirst, ProbeResult, ProbeResult]


def test_a_host_converges_on_the_first_tick_after_its_soak() -> None:
    """Passing probes and an elapsed soak are enough; the next tick says so."""
    agent = soaking_agent()
    probe(agent, PASSED)
    agent.tell(Tick(), after_seconds=299)
    assert agent.record().state is HostState.SOAKING
    agent.tell(Tick(), after_seconds=1)
    assert agent.facts[-1] == Converged(agent.now, "new", agent.facts[-1].seq)
    assert agent.record().state is HostState.CONVERGED


def test_a_host_does_not_converge_while_a_declared_probe_has_not_reported() -> None:
    """An elapsed soak is not enough when a probe never ran."""
    agent = soaking_agent()
    agent.tell(Tick(), after_seconds=3600)
    assert agent.record().state is HostState.SOAKING


def test_a_probe_that_fails_for_the_threshold_fails_the_host_and_rolls_back() -> None:
    """Sixty seconds of unbroken failure are sustained; the policy of the manifest decides what follows."""
    agent = soaking_agent()
    agent.fail_probe(seconds=59)
    agent.tell(Tick())
    assert agent.record().state is HostState.SOAKING
    probe(agent, FAILED, after_seconds=1)
    agent.tell(Tick())
    assert agent.facts[-1] == Failed(
        agent.now, 60, ("alive",), OnHealthFailure.ROLLBACK_AND_HALT, agent.facts[-1].seq
    )
    assert agent.intent.closure == "old"


def test_a_probe_that_recovers_starts_its_clock_anew() -> None:
    """Flapping is not sustained failure."""
    agent = soaking_agent()
    for _ in range(5):
        probe(agent, FAILED, after_seconds=30)
        probe(agent, PASSED, after_seconds=25)
        agent.tell(Tick())
    assert agent.record().state is HostState.SOAKING


def test_a_failed_rollback_keeps_the_host_failed() -> None:
    """A rollback that exits non-zero is reported with what really runs."""
    agent = soaking_agent()
    agent.fail_probe(seconds=60)
    agent.tell(Tick())
    agent.tell(RollbackEnded(agent.intent.intent_id, RollbackFinished("new", 1, "boom")))
    assert agent.facts[-1] == RollbackComplete("new", 1, agent.now, agent.facts[-1].seq, "boom")
    assert agent.record().state is HostState.FAILED
    assert agent.record().current_closure == "new"


def test_a_policy_of_halt_fires_no_rollback() -> None:
    """With policy halt the failed closure stays for somebody to look at."""
    agent = soaking_agent(manifest_of(on_health_failure=OnHealthFailure.HALT))
    agent.fail_probe(seconds=60)
    agent.tell(Tick())
    assert agent.record().state is HostState.FAILED
    assert agent.state.intents == {}


def test_unreadable_checks_count_as_one_failing_probe() -> None:
    """What cannot be checked must not converge: it fails and goes back."""
    agent = LoneAgent()
    state = soaking_agent().state
    agent = LoneAgent(state)
    agent.tell(ChecksUnreadable(R1, "$.alive.kind: expected a probe kind"))
    agent.tell(ChecksUnreadable(R1, "$.alive.kind: expected a probe kind"))
    assert [type(fact).__name__ for fact in agent.facts] == [
        "ProbeTopologyDeclared",
        "ProbeObservedFirst",
        "ProbeFailureFirst",
        "ProbeResult",
    ]
    agent.tell(Tick())
    agent.tell(Tick(), after_seconds=60)
    assert agent.record().state is HostState.FAILED


def test_one_sample_that_fails_is_not_a_sustained_failure() -> None:
    """A probe that ran once and not again for an hour has not failed for an hour."""
    agent = soaking_agent()
    probe(agent, FAILED)
    agent.tell(Tick(), after_seconds=3600)
    assert agent.record().state is HostState.SOAKING


def test_samples_too_far_apart_begin_the_run_of_failures_anew() -> None:
    """Between them the probe may have passed: the gap may be the threshold, or twice the interval of the probe."""
    agent = soaking_agent()
    probe(agent, FAILED)
    probe(agent, FAILED, after_seconds=61)
    agent.tell(Tick())
    assert agent.record().state is HostState.SOAKING


def test_a_step_of_the_clock_forward_fails_nothing_and_ends_no_soak() -> None:
    """What the clock jumps is no time: neither of failing nor of soaking."""
    agent = soaking_agent()
    probe(agent, FAILED)
    agent.step_clock(365 * 86400)
    probe(agent, FAILED)
    agent.tell(Tick())
    assert agent.record().state is HostState.SOAKING
    probe(agent, PASSED)
    agent.tell(Tick(), after_seconds=200)
    assert agent.record().state is HostState.SOAKING


def test_a_soak_over_a_step_of_the_clock_lasts_its_signed_time() -> None:
    """The step counts as a minute at most; then the soak goes on, and ends."""
    agent = soaking_agent()
    probe(agent, PASSED)
    agent.step_clock(86400)
    agent.tell(Tick(), after_seconds=239)
    assert agent.record().state is HostState.SOAKING
    agent.tell(Tick(), after_seconds=31)
    assert agent.record().state is HostState.CONVERGED


def test_a_probe_that_passed_before_a_restart_has_not_reported_after_it() -> None:
    """What was true before a reboot proves nothing: the host converges when the probe has run again."""
    agent = soaking_agent()
    probe(agent, PASSED)
    agent.now += timedelta(seconds=600)
    booted = LoneAgent(agent.state)
    booted.now = agent.now
    booted.tell(Booted("new"))
    booted.tell(ChecksLoaded(R1, ALIVE))
    booted.tell(Tick())
    assert booted.record().state is HostState.SOAKING
    probe(booted, PASSED)
    assert booted.record().state is HostState.CONVERGED


def test_a_result_of_a_probe_that_was_stopped_changes_nothing() -> None:
    """A probe that was under way when its host converged is not heard any more."""
    agent = soaking_agent()
    probe(agent, PASSED)
    agent.tell(Tick(), after_seconds=300)
    agent.facts.clear()
    probe(agent, FAILED)
    assert agent.facts == []


@pytest.mark.parametrize(
    ("controls", "reason"),
    [
        (("c",) * 1025, "expected at most 1024 controls, found 1025"),
        (("x" * 2000,), "expected texts of at most 1024 characters, found longer ones for control"),
    ],
    ids=["too many", "too long"],
)
def test_a_result_that_could_not_be_sent_is_reported_as_a_failure_that_says_so(
    controls: tuple[str, ...], reason: str
) -> None:
    """The control plane would refuse it, and everything after it would wait for ever."""
    sub_results = tuple(ProbeSubResult(each, ProbeStatus.PASS, "own") for each in controls)
    outcome = reportable(evolve(PASSED, sub_results=sub_results))
    assert (outcome.status, outcome.sub_results) == (ProbeStatus.FAIL, None)
    assert outcome.failure_reason is not None
    assert outcome.failure_reason.startswith(reason)
    assert reportable(PASSED) is PASSED
