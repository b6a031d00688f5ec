"""After it has converged: a host is watched until its rollout rests, and fails when its probes fail for long enough."""

import pytest

from nixfleet_agent.activation.activator import RollbackFinished, SwitchCompleted
from nixfleet_agent.messages.inputs import (
    Booted,
    ChecksLoaded,
    ChecksUnreadable,
    EventRejected,
    IntentKind,
    LoadChecks,
    ProbeRan,
    RecordBootstrapped,
    RollbackEnded,
    RolloutsRest,
    RunningClosureSeen,
    StartProbes,
    StopProbes,
    SwitchEnded,
    Tick,
)
from nixfleet_agent.probes.runner import PASSED
from nixfleet_proto.agent_event import OnHealthFailure, ProbeMode, Regressed
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import ExecProbe
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.transport import EventRefused
from nixfleet_state_machine.host.effect import EmitLog
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import ALIVE, SOAK_MINUTES, LoneAgent, manifest_of, soaking_agent

R1 = RolloutId("stable@r1")
RESTS = RolloutsRest(frozenset({R1}))
GOES_ON = RolloutsRest(frozenset())
MIXED = HealthCheckSet(
    {
        "alive": ExecProbe(("bin/alive",)),
        "once": ExecProbe(("bin/once",), run_once=True),
        "seen": ExecProbe(("bin/seen",), mode=ProbeMode.OBSERVE),
    }
)


def converge(agent: LoneAgent, *names: str) -> None:
    for name in names or ("alive",):
        agent.tell(ProbeRan(R1, name, PASSED))
    agent.tell(Tick(), after_seconds=SOAK_MINUTES * 60)
    assert agent.record().state is HostState.CONVERGED


def converged_agent(policy: OnHealthFailure = OnHealthFailure.ROLLBACK_AND_HALT) -> LoneAgent:
    agent = soaking_agent(manifest_of(on_health_failure=policy))
    converge(agent)
    return agent


def test_probes_go_on_after_the_convergence() -> None:
    """Those that run are not stopped."""
    assert StopProbes(R1) not in converged_agent().actions


def test_results_after_the_convergence_are_not_facts() -> None:
    """The host is past its verdict: nothing is written for a probe that runs."""
    agent = converged_agent()
    record = agent.record()
    for _ in range(10):
        agent.tell(ProbeRan(R1, "alive", PASSED), after_seconds=30)
        assert (agent.writes, agent.actions) == ((), ())
    assert agent.record() == record


def test_a_converged_host_whose_probe_fails_for_a_sustained_time_regresses_and_rolls_back() -> None:
    """By the rule of the soak; the fact names the probes, how long they failed, and the policy."""
    agent = converged_agent()
    agent.fail_probe(seconds=59)
    agent.tell(Tick())
    assert agent.record().state is HostState.CONVERGED
    agent.fail_probe(seconds=1)
    agent.tell(Tick())

    policy = OnHealthFailure.ROLLBACK_AND_HALT
    fact = agent.facts[-1]
    assert fact == Regressed(agent.now, 60, ("alive",), policy, fact.seq)
    assert (agent.intent.kind, agent.intent.closure) == (IntentKind.ROLLBACK, "old")
    assert StopProbes(R1) in agent.actions
    agent.tell(RollbackEnded(agent.intent.intent_id, RollbackFinished("old", 0)))
    assert agent.record().state is HostState.REVERTED


def test_under_halt_a_host_that_regresses_stays_where_it_is() -> None:
    """The policy says what follows."""
    agent = converged_agent(OnHealthFailure.HALT)
    agent.fail_probe(seconds=60)
    agent.tell(Tick())

    assert isinstance(agent.facts[-1], Regressed)
    assert not agent.state.intents


def test_a_probe_that_recovers_begins_its_failure_anew() -> None:
    """Flapping is not sustained failure."""
    agent = converged_agent()
    agent.fail_probe(seconds=59)
    agent.tell(ProbeRan(R1, "alive", PASSED))
    agent.fail_probe(seconds=59)
    agent.tell(Tick())

    assert agent.record().state is HostState.CONVERGED


def test_a_probe_that_is_only_observed_makes_no_regression() -> None:
    """Only enforce probes do."""
    agent = soaking_agent()
    agent.tell(ChecksLoaded(R1, MIXED))
    converge(agent, "alive", "once", "seen")
    agent.fail_probe(seconds=120, probe_name="seen")
    agent.tell(Tick())

    assert agent.record().state is HostState.CONVERGED


def test_a_rollout_that_rests_is_watched_no_more() -> None:
    """The probes stop, and a result that was under way counts for nothing."""
    agent = converged_agent()
    agent.tell(RESTS)
    assert agent.actions == (StopProbes(R1),)
    assert agent.writes == ()
    agent.fail_probe(seconds=120)
    agent.tell(Tick())

    assert agent.record().state is HostState.CONVERGED


def test_that_a_rollout_rests_is_said_once_however_often_it_comes() -> None:
    """A heartbeat comes every minute."""
    agent = converged_agent()
    agent.tell(RESTS)
    agent.tell(RESTS)
    assert agent.actions == ()


def test_a_host_that_converges_in_a_rollout_at_rest_is_not_watched() -> None:
    """It came late; or the rollout was halted meanwhile. Its soak is watched all the same."""
    agent = soaking_agent()
    agent.tell(RESTS)
    assert agent.actions == ()
    converge(agent)

    assert StopProbes(R1) in agent.actions


def test_a_rollout_that_goes_on_again_is_watched_again() -> None:
    """An operator cleared it. Time in which nobody looked is no sustained failure."""
    agent = converged_agent()
    agent.fail_probe(seconds=59)
    agent.tell(RESTS)
    agent.tell(GOES_ON)
    assert list(agent.actions) == [LoadChecks(R1, "new")]
    agent.tell(ChecksLoaded(R1, ALIVE))
    assert list(agent.actions) == [StartProbes(R1, ALIVE)]
    agent.fail_probe(seconds=59)
    agent.tell(Tick())
    assert agent.record().state is HostState.CONVERGED
    agent.fail_probe(seconds=1)
    agent.tell(Tick())

    assert isinstance(agent.facts[-1], Regressed)


def test_watching_again_writes_nothing_and_runs_no_probe_that_runs_once() -> None:
    """It had its run; the topology was declared in the soak."""
    agent = soaking_agent()
    agent.tell(ChecksLoaded(R1, MIXED))
    converge(agent, "alive", "once", "seen")
    agent.tell(RESTS)
    agent.tell(GOES_ON)
    agent.tell(ChecksLoaded(R1, MIXED))

    again = HealthCheckSet({name: MIXED[name] for name in ("alive", "seen")})
    assert agent.actions == (StartProbes(R1, again),)
    assert agent.writes == ()


def test_a_restart_goes_on_watching() -> None:
    """Until the control plane says that the rollout rests; a failure is sustained from then on."""
    agent = converged_agent()
    agent.fail_probe(seconds=59)
    agent.restart("new")
    assert LoadChecks(R1, "new") in agent.actions
    agent.tell(ChecksLoaded(R1, ALIVE))
    agent.fail_probe(seconds=59)
    agent.tell(Tick())
    assert agent.record().state is HostState.CONVERGED
    agent.fail_probe(seconds=1)
    agent.tell(Tick())

    assert isinstance(agent.facts[-1], Regressed)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_superseded_rollout_is_watched_no_more(restarts: bool) -> None:
    """Its closure is on its way out."""
    agent = converged_agent()
    agent.tell(agent.offered(manifest_of("r2", "newer", signed_at=agent.now), closure="newer"))
    assert StopProbes(R1) in agent.actions
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("newer", 0)))
    if restarts:
        agent.restart("newer")
        assert LoadChecks(R1, "new") not in agent.actions
    agent.tell(GOES_ON)
    assert agent.actions == ()


def test_a_host_that_drifted_does_not_regress() -> None:
    """The probes run in another closure then, and say nothing of this one; nor do they when it is back at once."""
    agent = converged_agent()
    agent.fail_probe(seconds=59)
    agent.tell(RunningClosureSeen("by-hand"))
    agent.fail_probe(seconds=120)
    agent.tell(Tick())
    assert agent.record().state is HostState.CONVERGED
    agent.tell(RunningClosureSeen("new"))
    agent.fail_probe(seconds=59)
    agent.tell(Tick())

    assert agent.record().state is HostState.CONVERGED


def test_a_host_regresses_only_after_its_convergence_is_settled() -> None:
    """A convergence that has not been sent may be refused, and the host soaks again: both sides must agree."""
    agent = converged_agent()
    unsent = Tick(frozenset({R1}))
    agent.fail_probe(seconds=60)
    agent.tell(unsent)
    assert agent.record().state is HostState.CONVERGED
    seq = agent.record().last_event_seq
    refused = EventRefused(R1, seq, "too early")
    agent.tell(EventRejected(7, refused))
    assert agent.record().state is HostState.SOAKING


def test_a_regression_is_reported_as_soon_as_the_convergence_is_settled() -> None:
    """The failure has lasted since it was seen."""
    agent = converged_agent()
    agent.fail_probe(seconds=60)
    agent.tell(Tick(frozenset({R1})))
    agent.tell(Tick())

    assert isinstance(agent.facts[-1], Regressed)


def test_checks_that_cannot_be_read_any_more_are_no_regression() -> None:
    """The log says that the host is not watched."""
    agent = converged_agent()
    agent.tell(Booted("new"))
    agent.tell(ChecksUnreadable(R1, "etc/nixfleet/health-checks.json: I/O error"))
    agent.tell(Tick(), after_seconds=3600)

    assert agent.record().state is HostState.CONVERGED
    agent.tell(ChecksUnreadable(R1, "etc/nixfleet/health-checks.json: I/O error"))
    (entry,) = [each for each in agent.actions if isinstance(each, EmitLog)]
    assert entry.message == "converged, and not watched"


def test_a_converged_record_that_is_taken_over_is_watched() -> None:
    """The disk was replaced; the rollout goes on."""
    fresh = LoneAgent()
    lost = converged_agent()
    fresh.now = lost.now
    fresh.tell(RecordBootstrapped(lost.record(), manifest_of()))

    assert LoadChecks(R1, "new") in fresh.actions
