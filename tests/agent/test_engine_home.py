"""A release that cuts its host off from the control plane: the host notices, and comes home by itself."""

from datetime import datetime, timedelta

import pytest

from nixfleet_agent.activation.activator import RollbackFinished, SwitchCompleted
from nixfleet_agent.engine.home import HOME_BEFORE
from nixfleet_agent.messages.inputs import (
    ChecksLoaded,
    HomeLooked,
    IntentKind,
    RollbackEnded,
    StartProbes,
    SwitchEnded,
    SwitchStarted,
    Tick,
)
from nixfleet_proto.agent_event import Failed, OnHealthFailure, ProbeResult, ProbeStatus
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import ExecProbe, HealthCheck, HomeProbe
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from tests.agent.lone_agent import T0, LoneAgent, manifest_of

R1 = RolloutId("stable@r1")
HOME = HealthCheckSet({"home": HomeProbe(max_silence_secs=180)})
WITH_SECOND = HealthCheckSet(
    {"home": HomeProbe(max_silence_secs=180, second_address="gateway.example.org:443")}
)
LOOK_SECONDS = 30


def switched(
    *,
    home_at: datetime | None = T0,
    checks: HealthCheckSet = HOME,
    policy: OnHealthFailure = OnHealthFailure.ROLLBACK_AND_HALT,
    attempts: int = 1,
) -> LoneAgent:
    """An agent whose host switched just now. home_at: the control plane's latest answer before."""
    agent = LoneAgent()
    agent.tell(agent.offered(manifest_of(on_health_failure=policy, attempts=attempts)))
    intent_id = agent.intent.intent_id
    agent.tell(SwitchStarted(intent_id, "directory", home_at))
    agent.tell(SwitchEnded(intent_id, SwitchCompleted("new", 0)))
    agent.tell(ChecksLoaded(R1, checks))
    return agent


def look(
    agent: LoneAgent,
    answered_at: datetime | None,
    *,
    for_seconds: float = 0,
    second: bool | None = None,
) -> None:
    """Look at the contact, at its interval, for as long as that; the answers do not change meanwhile."""
    agent.tell(HomeLooked(R1, "home", answered_at, second))
    for _ in range(int(for_seconds // LOOK_SECONDS)):
        looked = HomeLooked(R1, "home", answered_at, second)
        agent.tell(looked, after_seconds=LOOK_SECONDS)
        agent.tell(Tick())


def results(agent: LoneAgent) -> list[ProbeStatus]:
    return [fact.status for fact in agent.facts if isinstance(fact, ProbeResult)]


def test_a_host_that_was_home_and_is_cut_off_by_its_switch_rolls_back() -> None:
    """After the silence that the probe allows, and then the time of every sustained failure."""
    agent = switched()
    look(agent, T0 - timedelta(seconds=1), for_seconds=180 + 30)
    assert agent.record().state is HostState.SOAKING
    look(agent, T0 - timedelta(seconds=1), for_seconds=90)

    failed = next(fact for fact in agent.facts if isinstance(fact, Failed))
    assert failed.failing_probes == ("home",)
    (rollback,) = agent.state.intents.values()
    assert (rollback.kind, rollback.closure) == (IntentKind.ROLLBACK, "old")
    agent.tell(RollbackEnded(rollback.intent_id, RollbackFinished("old", 0)))
    assert agent.record().state is HostState.REVERTED


def test_under_halt_a_host_that_is_cut_off_fails_and_stays() -> None:
    """The policy says what follows, as for every probe."""
    agent = switched(policy=OnHealthFailure.HALT)
    look(agent, None, for_seconds=300)

    assert agent.record().state is HostState.FAILED
    assert not agent.state.intents


def test_a_host_does_not_converge_before_it_was_home_after_its_switch() -> None:
    """No answer yet is no result, however short the soak is."""
    agent = switched()
    agent.record()
    look(agent, T0 - timedelta(seconds=1), for_seconds=150)
    assert results(agent) == []
    look(agent, agent.now)
    agent.tell(Tick(), after_seconds=300)

    assert results(agent) == [ProbeStatus.PASS]
    assert agent.record().state is HostState.CONVERGED


def test_a_cut_later_in_the_soak_is_noticed_too() -> None:
    """A lease that is not renewed, for example: an answer after the switch does not end the watch."""
    agent = switched()
    answered_at = agent.now + timedelta(seconds=30)
    agent.now = answered_at
    look(agent, answered_at)
    look(agent, answered_at, for_seconds=300)

    assert agent.record().state is HostState.FAILED


@pytest.mark.parametrize(
    "home_at", [None, T0 - HOME_BEFORE - timedelta(seconds=1)], ids=["never", "long ago"]
)
def test_a_host_that_was_not_home_before_its_switch_is_not_blamed(home_at: datetime | None) -> None:
    """The control plane was away already: nothing is known of what the switch did."""
    agent = switched(home_at=home_at)
    look(agent, None, for_seconds=600)

    assert agent.record().state is HostState.CONVERGED
    assert set(results(agent)) == {ProbeStatus.PASS}


def test_a_control_plane_that_is_away_for_all_rolls_nobody_back_where_the_second_address_answers() -> (
    None
):
    """The network works, so the host is not to blame; it converges when the rest is well."""
    agent = switched(checks=WITH_SECOND)
    look(agent, None, for_seconds=600, second=True)

    assert agent.record().state is HostState.CONVERGED


def test_a_cut_is_noticed_when_the_second_address_is_silent_too() -> None:
    """The reason names both."""
    agent = switched(checks=WITH_SECOND)
    look(agent, None, for_seconds=300, second=False)

    assert agent.record().state is HostState.FAILED
    reasons = {f.failure_reason for f in agent.facts if isinstance(f, ProbeResult)}
    assert any("none from gateway.example.org:443" in str(reason) for reason in reasons)


def test_a_converged_host_is_never_sent_back_for_an_outage() -> None:
    """An outage of the control plane must not send a whole fleet back: the watch ends with the soak."""
    agent = switched()
    look(agent, agent.now)
    agent.tell(Tick(), after_seconds=300)
    assert agent.record().state is HostState.CONVERGED
    before = agent.record()
    look(agent, T0, for_seconds=900)

    assert agent.record() == before


def test_the_probes_of_a_converged_host_that_are_begun_anew_leave_out_the_way_home() -> None:
    """After a restart, say."""
    both: dict[str, HealthCheck] = {"home": HomeProbe(), "alive": ExecProbe(("bin/alive",))}
    checks = HealthCheckSet(both)
    agent = switched(home_at=None)
    look(agent, None)
    agent.tell(Tick(), after_seconds=300)
    agent.tell(ChecksLoaded(R1, checks))

    (started,) = [each for each in agent.actions if isinstance(each, StartProbes)]
    assert set(started.checks) == {"alive"}


def test_a_restart_of_the_agent_keeps_that_the_host_was_home_and_waits_anew() -> None:
    """A switch restarts the agent: what was before it is in the journal, and the silence counts from the start."""
    agent = switched()
    agent.restart("new")
    agent.tell(ChecksLoaded(R1, HOME))
    look(agent, None, for_seconds=180)
    assert agent.record().state is HostState.SOAKING
    look(agent, None, for_seconds=90)

    assert agent.record().state is HostState.FAILED


def test_another_attempt_forgets_when_the_host_was_home() -> None:
    """Each switch has a before of its own."""
    agent = switched(attempts=2)
    look(agent, None, for_seconds=300)
    (rollback,) = agent.state.intents.values()
    agent.tell(RollbackEnded(rollback.intent_id, RollbackFinished("old", 0)))
    assert agent.state.rollouts[R1].home_at == T0
    agent.tell(agent.offered(manifest_of(attempts=2), attempt=2))

    assert agent.state.rollouts[R1].home_at is None


@pytest.mark.parametrize("jump_seconds", [3600, -3600], ids=["forward", "back"])
def test_a_clock_that_is_set_while_answers_are_slow_fails_no_host_that_is_home(
    jump_seconds: int,
) -> None:
    """Silence is time that was seen to pass, as the soak is, and not what two clocks show."""
    agent = switched()
    look(agent, agent.now)
    answered_at = agent.now
    agent.step_clock(jump_seconds)
    for _ in range(4):
        # An answer every 150 seconds, and looks between that show the one before.
        look(agent, answered_at, for_seconds=150)
        answered_at = agent.now

    assert agent.record().state is not HostState.FAILED
    assert set(results(agent)) == {ProbeStatus.PASS}


@pytest.mark.parametrize("jump_seconds", [3600, -3600], ids=["forward", "back"])
def test_a_cut_is_noticed_though_the_clock_is_set(jump_seconds: int) -> None:
    """One that is set back hides no silence, and an answer from before stays one."""
    agent = switched()
    look(agent, agent.now)
    answered_at = agent.now
    agent.step_clock(jump_seconds)
    look(agent, answered_at, for_seconds=180)
    assert agent.record().state is HostState.SOAKING
    look(agent, answered_at, for_seconds=120)

    assert agent.record().state is HostState.FAILED
