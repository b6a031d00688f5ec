"""The worker for probes: which are started, how often they run, and when they stop."""

import logging

import pytest

from nixfleet_agent.messages.inputs import (
    ChecksLoaded,
    Done,
    HomeLooked,
    LoadChecks,
    ProbeRan,
    StartProbes,
    StopProbes,
)
from nixfleet_agent.probes.runner import PASSED, ProbeOutcome, failed
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.probes import ProbeWorker
from nixfleet_agent.workers.steps import (
    AgentStep,
    PostInput,
    ReadHealthChecks,
    RunProbe,
    Start,
    StopGroup,
    Wait,
)
from nixfleet_proto.agent_event import ProbeMode
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import ExecProbe, HealthCheck, HomeProbe, TcpProbe
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.kernel.mutator import WriteFailed
from tests.agent.lone_agent import T0
from tests.agent.steps import Script

R1 = RolloutId("stable@r1")
ALIVE = ExecProbe(("alive",), interval_seconds=30)
QUICK = ExecProbe(("quick",), interval_seconds=1)
ONCE = ExecProbe(("once",), interval_seconds=30, run_once=True)
OFF = ExecProbe(("off",), mode=ProbeMode.DISABLED)


@pytest.fixture
def worker() -> ProbeWorker:
    post = RetryingPost(Backoff(lambda: 0.0), logging.getLogger("probes"))
    return ProbeWorker(5.0, post, Contact(lambda: T0))


def steps_after(
    worker: ProbeWorker, *orders: LoadChecks | StartProbes | StopProbes
) -> list[AgentStep]:
    for order in orders:
        worker.order(order)
    return Script({Wait: []}).run(worker.run())[:-1]


def started(worker: ProbeWorker, check: HealthCheck) -> Start:
    """Return the start of the one probe of r1."""
    steps = steps_after(worker, StartProbes(R1, HealthCheckSet({"probe": check})))
    (start,) = [step for step in steps if isinstance(step, Start)]
    return start


def test_every_probe_that_is_not_disabled_is_started_in_its_rollouts_group(
    worker: ProbeWorker,
) -> None:
    """Those that ran before for the same rollout are stopped first."""
    checks = HealthCheckSet({"alive": ALIVE, "off": OFF, "quick": QUICK})
    stop, *starts = steps_after(worker, StartProbes(R1, checks))

    assert stop == StopGroup(R1)
    assert [(step.name, step.group) for step in starts if isinstance(step, Start)] == [
        ("probe alive", R1),
        ("probe quick", R1),
    ]


def test_orders_are_carried_out_in_order(worker: ProbeWorker) -> None:
    """Probes that are stopped right after their start do not stay."""
    steps = steps_after(worker, StartProbes(R1, HealthCheckSet({"alive": ALIVE})), StopProbes(R1))

    assert [type(step) for step in steps] == [StopGroup, Start, StopGroup]


def test_the_health_checks_that_are_read_are_posted_until_durable(worker: ProbeWorker) -> None:
    """Without them the host would never converge."""
    (start,) = steps_after(worker, LoadChecks(R1, "new"))
    assert isinstance(start, Start)
    loaded = ChecksLoaded(R1, HealthCheckSet({"alive": ALIVE}))
    script = Script({ReadHealthChecks: loaded, PostInput: [WriteFailed(), Done()]})
    script.run(start.begin())

    assert script.steps[0] == ReadHealthChecks(R1, "new")
    assert script.posted == [loaded, loaded]


@pytest.mark.parametrize(("check", "seconds"), [(ALIVE, 30), (QUICK, 5.0)], ids=["own", "floor"])
def test_a_probe_runs_at_its_interval_but_not_below_the_floor(
    check: HealthCheck, seconds: float, worker: ProbeWorker
) -> None:
    """A result that could not be made durable is replaced by the next one."""
    script = Script({RunProbe: [PASSED, PASSED], PostInput: [WriteFailed(), Done()]})
    script.run(started(worker, check).begin())

    assert script.posted == [ProbeRan(R1, "probe", PASSED)] * 2
    assert script.waited == [seconds, seconds]


@pytest.mark.parametrize(("outcome", "answers"), [(PASSED, True), (failed("a", "b"), False)])
def test_a_look_home_reports_the_contact_and_whether_the_second_address_answers(
    worker: ProbeWorker, outcome: ProbeOutcome, answers: bool
) -> None:
    """The worker judges nothing: when the last answer came is what it reports."""
    script = Script({RunProbe: [outcome], PostInput: Done()})
    home = HomeProbe(second_address="gateway:443", connect_timeout_secs=2)
    script.run(started(worker, home).begin())

    assert script.steps[0] == RunProbe(TcpProbe("gateway", 443, connect_timeout_secs=2))
    assert script.posted == [HomeLooked(R1, "probe", None, answers)]


def test_a_look_home_without_a_second_address_connects_to_nobody(worker: ProbeWorker) -> None:
    """What is not declared is not known."""
    script = Script({PostInput: Done(), Wait: []})
    script.run(started(worker, HomeProbe()).begin())

    assert script.posted == [HomeLooked(R1, "probe", None, None)]
    assert script.waited == [30]


def test_a_probe_that_runs_once_is_repeated_only_until_its_result_is_durable(
    worker: ProbeWorker,
) -> None:
    """Then it ends."""
    script = Script({RunProbe: PASSED, PostInput: [WriteFailed(), Done()]})
    script.run(started(worker, ONCE).begin())

    assert script.posted == [ProbeRan(R1, "probe", PASSED)] * 2
    assert script.waited == [30]
