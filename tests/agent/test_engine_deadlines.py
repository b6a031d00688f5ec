"""The deadlines that an agent holds itself to: by time that it saw pass, in each attempt anew."""

import pytest

from nixfleet_agent.activation.activator import SwitchCompleted, SwitchDeferred
from nixfleet_agent.messages.inputs import (
    ChecksLoaded,
    ClosureAwaited,
    IntentBegun,
    IntentKind,
    MayBegin,
    ProbeRan,
    RecordBootstrapped,
    RunningClosureSeen,
    SwitchEnded,
    Tick,
)
from nixfleet_agent.probes.runner import PASSED
from nixfleet_proto.agent_event import ActivationFailed, Failed, OnHealthFailure, ProbeMode
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import ExecProbe
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines
from nixfleet_proto.trust import Verified
from nixfleet_state_machine.host.effect import EmitLog
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import ALIVE, LoneAgent, manifest_of, soaking_agent

R1 = RolloutId("stable@r1")
HALT = OnHealthFailure.HALT
TEN_MINUTES, YEAR_SECONDS = 600, 365 * 86400


def converge_in_ten(
    then: AtDeadline = AtDeadline.FAIL, on_health_failure: OnHealthFailure = HALT
) -> Verified[RolloutManifest]:
    deadlines = Deadlines(convergence=Deadline(10, then))
    return manifest_of(deadlines=deadlines, on_health_failure=on_health_failure)


def activate_in_ten(then: AtDeadline = AtDeadline.FAIL) -> Verified[RolloutManifest]:
    deadlines = Deadlines(activation=Deadline(10, then))
    return manifest_of(deadlines=deadlines, on_health_failure=HALT)


def activating_agent(manifest: Verified[RolloutManifest] | None = None) -> LoneAgent:
    agent = LoneAgent()
    agent.tell(agent.offered(manifest or activate_in_ten()))
    return agent


def said(agent: LoneAgent) -> str:
    return " ".join(str(dict(each.fields)) for each in agent.actions if isinstance(each, EmitLog))


# Convergence.


def test_a_host_that_has_not_converged_by_its_deadline_has_failed() -> None:
    """The fact names the probe that never reported; the log says what it waited for."""
    agent = soaking_agent(converge_in_ten())
    agent.tell(Tick(), after_seconds=TEN_MINUTES - 1)
    assert agent.record().state is HostState.SOAKING
    agent.tell(Tick(), after_seconds=1)

    fact = agent.facts[-1]
    assert fact == Failed(agent.now, 0, ("alive",), HALT, fact.seq)
    assert "did not converge within its deadline, waiting for alive" in said(agent)


def test_the_policy_decides_what_follows_a_convergence_that_is_overdue() -> None:
    """As after any other failure."""
    agent = soaking_agent(converge_in_ten(on_health_failure=OnHealthFailure.ROLLBACK_AND_HALT))
    agent.tell(Tick(), after_seconds=TEN_MINUTES)

    assert (agent.intent.kind, agent.intent.closure) == (IntentKind.ROLLBACK, "old")


def test_only_enforce_probes_that_are_in_the_way_are_named() -> None:
    """Not the one that passes, and not one that nothing waits for."""
    checks = HealthCheckSet(
        {
            "fails": ExecProbe(("bin/fails",)),
            "passes": ExecProbe(("bin/passes",)),
            "seen": ExecProbe(("bin/seen",), mode=ProbeMode.OBSERVE),
        }
    )
    agent = soaking_agent(converge_in_ten())
    agent.tell(ChecksLoaded(R1, checks))
    agent.tell(ProbeRan(R1, "passes", PASSED))
    agent.tell(Tick(), after_seconds=TEN_MINUTES - 30)
    agent.fail_probe(10, "fails")
    agent.tell(Tick(), after_seconds=20)

    fact = agent.facts[-1]
    assert isinstance(fact, Failed)
    assert fact.failing_probes == ("fails",)


def test_a_host_that_runs_something_else_fails_at_the_deadline_by_the_agents_own_probe() -> None:
    """It began to run too late for a sustained failure."""
    agent = soaking_agent(converge_in_ten())
    agent.tell(Tick(), after_seconds=TEN_MINUTES - 30)
    agent.tell(RunningClosureSeen("by-hand"))
    agent.tell(ProbeRan(R1, "alive", PASSED))
    agent.tell(Tick(), after_seconds=30)

    fact = agent.facts[-1]
    assert isinstance(fact, Failed)
    assert fact.failing_probes == ("running-closure",)


def test_a_host_that_converges_at_its_deadline_has_converged() -> None:
    """It did what it was to do in time."""
    agent = soaking_agent(converge_in_ten())
    agent.tell(Tick(), after_seconds=TEN_MINUTES - 5)
    agent.tell(ProbeRan(R1, "alive", PASSED), after_seconds=4)
    agent.tell(Tick(), after_seconds=1)

    assert agent.record().state is HostState.CONVERGED


def test_a_clock_that_is_set_forward_ends_no_soak_early() -> None:
    """A year by the clock is no time that passed."""
    agent = soaking_agent(converge_in_ten())
    agent.step_clock(YEAR_SECONDS)
    agent.tell(Tick(), after_seconds=1)
    assert agent.record().state is HostState.SOAKING
    agent.tell(Tick(), after_seconds=TEN_MINUTES)

    assert agent.record().state is HostState.FAILED


def test_a_restart_begins_no_soak_anew() -> None:
    """Time since the activation counts while nobody looked."""
    agent = soaking_agent(converge_in_ten())
    agent.step_clock(TEN_MINUTES)
    agent.restart("new")
    agent.tell(Tick())

    assert agent.record().state is HostState.FAILED


@pytest.mark.parametrize("soaks", [True, False], ids=["soaks", "activates"])
def test_a_deadline_after_which_is_to_be_waited_ends_nothing(soaks: bool) -> None:
    """`wait` changes nothing; operators see that it is overdue."""
    wait = AtDeadline.WAIT
    agent = (
        soaking_agent(converge_in_ten(wait)) if soaks else activating_agent(activate_in_ten(wait))
    )
    before = agent.record().state
    agent.tell(Tick(), after_seconds=10 * TEN_MINUTES)

    assert agent.record().state is before


def test_without_a_deadline_a_host_soaks_for_ever() -> None:
    """As before there were any."""
    agent = soaking_agent()
    agent.tell(Tick(), after_seconds=86400)
    assert agent.record().state is HostState.SOAKING


# Activation.


def test_a_switch_begins_with_what_is_left_of_the_deadline() -> None:
    """The activator ends it then, with all its processes."""
    agent = activating_agent()
    begun = agent.tell(IntentBegun(agent.intent.intent_id), after_seconds=0)
    assert begun == MayBegin(TEN_MINUTES)

    late = activating_agent()
    intent = late.intent
    late.tell(ClosureAwaited(intent.intent_id, "not here"))
    late.tell(Tick(), after_seconds=TEN_MINUTES - 30)
    assert late.tell(IntentBegun(intent.intent_id)) == MayBegin(30)


def test_a_switch_that_began_before_a_restart_is_still_finished_past_the_deadline() -> None:
    """It may have ended meanwhile, which is found at once; otherwise it is ended in a second."""
    agent = activating_agent()
    intent = agent.intent
    agent.tell(IntentBegun(intent.intent_id))
    agent.step_clock(2 * TEN_MINUTES)
    agent.restart("old")
    agent.tell(Tick(), after_seconds=1)
    assert agent.record().state is HostState.ACTIVATING
    assert agent.tell(IntentBegun(intent.intent_id)) == MayBegin(1)
    agent.tell(SwitchEnded(intent.intent_id, SwitchCompleted("new", 0)))

    assert agent.record().state is HostState.SOAKING


def test_a_rollback_has_no_deadline() -> None:
    """A host on its way back is never stopped."""
    manifest = manifest_of(deadlines=Deadlines(activation=Deadline(10, AtDeadline.FAIL)))
    agent = activating_agent(manifest)
    agent.tell(Tick(), after_seconds=TEN_MINUTES)
    rollback = agent.intent
    assert rollback.kind is IntentKind.ROLLBACK

    assert agent.tell(IntentBegun(rollback.intent_id)) == MayBegin(None)


def test_a_clock_that_is_set_forward_ends_no_waiting() -> None:
    """A machine without a clock of its own starts in 1970."""
    agent = activating_agent()
    agent.step_clock(YEAR_SECONDS)
    agent.tell(Tick(), after_seconds=1)
    assert agent.record().state is HostState.ACTIVATING


def test_a_restart_goes_on_counting_towards_the_activation_deadline() -> None:
    """By the clock, since nothing else is known of the time between."""
    agent = activating_agent()
    agent.step_clock(TEN_MINUTES - 10)
    agent.restart("old")
    agent.tell(Tick())
    assert agent.record().state is HostState.ACTIVATING
    agent.tell(Tick(), after_seconds=10)

    assert isinstance(agent.facts[-1], ActivationFailed)


def test_each_attempt_has_its_deadlines_to_itself() -> None:
    """The time of the one before does not count."""
    agent = activating_agent()
    agent.tell(Tick(), after_seconds=TEN_MINUTES)
    assert agent.record().state is HostState.FAILED
    agent.tell(agent.offered(activate_in_ten(), attempt=2))
    agent.tell(Tick(), after_seconds=TEN_MINUTES - 1)
    assert agent.record().state is HostState.ACTIVATING
    agent.tell(Tick(), after_seconds=1)

    assert agent.record().state is HostState.FAILED


def test_an_activation_that_is_taken_over_has_the_whole_time() -> None:
    """The control plane's word on when it began is not evidence."""
    lost = activating_agent()
    fresh = LoneAgent()
    fresh.step_clock(YEAR_SECONDS)
    fresh.tell(RecordBootstrapped(lost.record(), activate_in_ten()))
    fresh.tell(Tick(), after_seconds=TEN_MINUTES - 1)
    assert fresh.record().state is HostState.ACTIVATING
    fresh.tell(Tick(), after_seconds=1)

    assert fresh.record().state is HostState.FAILED


def test_a_deferred_host_has_neither_deadline() -> None:
    """When it reboots is not the agent's to decide."""
    deadlines = Deadlines(
        activation=Deadline(10, AtDeadline.FAIL), convergence=Deadline(10, AtDeadline.FAIL)
    )
    agent = LoneAgent()
    agent.tell(agent.offered(manifest_of(deadlines=deadlines)))
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchDeferred("kernel")))
    agent.tell(Tick(), after_seconds=86400)
    assert agent.record().state is HostState.DEFERRED
    agent.tell(RunningClosureSeen("new"))
    agent.tell(ChecksLoaded(R1, ALIVE))
    agent.tell(Tick(), after_seconds=TEN_MINUTES - 1)

    assert agent.record().state is HostState.SOAKING
