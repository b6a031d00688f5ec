"""The worker for switches and rollbacks: one at a time, in order, none lost, and no rest before it is durable."""

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nixfleet_agent.activation.activator import (
    ClosureMismatch,
    ClosureNotHere,
    NoRunningClosure,
    Prepared,
    RollbackFinished,
    SwitchCompleted,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.messages.inputs import (
    AttemptsUsedUp,
    ClosureAwaited,
    Done,
    Intent,
    IntentBegun,
    IntentKind,
    IntentWithdrawn,
    MayBegin,
    RollbackEnded,
    SwitchEnded,
    SwitchStarted,
)
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.intents import COPYING_SECONDS, IntentWorker
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.refusals import Refusals
from nixfleet_agent.workers.steps import (
    PostInput,
    Prepare,
    ReadRunningClosure,
    RollBack,
    Switch,
    Wait,
    Wakeup,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.kernel.mutator import MutatorClosed
from nixfleet_runtime.transport import ActingRefusal
from tests.agent.steps import Script

LOG = logging.getLogger("intents")
NOW = datetime(2026, 5, 16, tzinfo=UTC)
R1 = RolloutId("stable@r1")
SWITCH = Intent(1, IntentKind.SWITCH, R1, "new")
ROLLBACK = Intent(2, IntentKind.ROLLBACK, R1, "old")
COMPLETED = SwitchCompleted("new", 0)
ROLLED_BACK = RollbackFinished("old", 0)
ANSWERS = {
    ReadRunningClosure: "old",
    Prepare: Prepared("new"),
    Switch: COMPLETED,
    RollBack: ROLLED_BACK,
    PostInput: MayBegin(None),
    Wait: [],
}


MISSING = ClosureNotHere("/store/new: expected the directory of the closure, found nothing")
AWAITED = f"waits for closure new: {MISSING.reason}"


@pytest.fixture
def refusals() -> Refusals:
    return Refusals(lambda: NOW)


@pytest.fixture
def worker(refusals: Refusals) -> IntentWorker:
    post = RetryingPost(Backoff(lambda: 0.0), LOG)
    waits = Backoff(lambda: 0.0), Backoff(lambda: 0.0)
    return IntentWorker("directory", post, *waits, LOG, refusals, Contact(lambda: NOW))


def test_intents_are_carried_out_one_after_the_other(worker: IntentWorker) -> None:
    """Each is reported before the next one begins."""
    worker.add(SWITCH)
    worker.add(ROLLBACK)
    steps = Script(ANSWERS).run(worker.run())

    assert steps[:-1] == [
        ReadRunningClosure(),
        Prepare(SWITCH, Wakeup()),
        PostInput(IntentBegun(1)),
        ReadRunningClosure(),
        PostInput(SwitchStarted(1, "directory")),
        Switch(SWITCH),
        PostInput(SwitchEnded(1, COMPLETED)),
        PostInput(IntentBegun(2)),
        RollBack(ROLLBACK),
        PostInput(RollbackEnded(2, ROLLED_BACK)),
    ]


def test_a_switch_to_what_runs_already_is_not_reported_to_start(worker: IntentWorker) -> None:
    """It was begun before a crash, and the activator completes it."""
    worker.add(SWITCH)
    script = Script({**ANSWERS, ReadRunningClosure: "new"})
    script.run(worker.run())

    assert script.posted == [IntentBegun(1), SwitchEnded(1, COMPLETED)]


@pytest.mark.parametrize(
    "reply", [AttemptsUsedUp(), IntentWithdrawn()], ids=["used-up", "withdrawn"]
)
@pytest.mark.parametrize("intent", [SWITCH, ROLLBACK], ids=["switch", "rollback"])
def test_an_intent_that_the_engine_ended_is_not_carried_out(
    intent: Intent, reply: AttemptsUsedUp | IntentWithdrawn, worker: IntentWorker
) -> None:
    """It was begun too often, or superseded: nothing of the machine is touched, and the next intent follows."""
    worker.add(intent)
    steps = Script({**ANSWERS, PostInput: reply}).run(worker.run())

    touching = [step for step in steps if isinstance(step, Switch | RollBack | PostInput)]
    assert touching == [PostInput(IntentBegun(intent.intent_id))]


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), NoRunningClosure(Path("/run/current"))])
def test_a_machine_that_cannot_be_read_is_tried_again(
    error: Exception, worker: IntentWorker
) -> None:
    """The host is between two closures: the intent is not given up."""
    worker.add(SWITCH)
    answers = {**ANSWERS, ReadRunningClosure: [error, error, "old", "old"], Wait: [None, None]}
    script = Script(answers)
    script.run(worker.run())

    assert script.waited == [0.5, 1.0, None]
    assert script.posted == [
        IntentBegun(1),
        SwitchStarted(1, "directory"),
        SwitchEnded(1, COMPLETED),
    ]


def test_after_a_success_the_wait_is_short_again(worker: IntentWorker) -> None:
    """The next failure has another cause."""
    error = OSError(5, "I/O error")
    reads = [error, error, "old", "old", error, "old", "old"]
    worker.add(SWITCH)
    worker.add(SWITCH)
    script = Script({**ANSWERS, ReadRunningClosure: reads, Wait: [None, None, None]})
    script.run(worker.run())

    assert script.waited == [0.5, 1.0, 0.5, None]


def test_an_intent_whose_worker_fails_is_carried_out_when_it_begins_again(
    worker: IntentWorker,
) -> None:
    """It leaves the queue when its outcome is durable; the lock is free for the next try."""
    worker.add(SWITCH)
    with pytest.raises(MutatorClosed):
        Script({**ANSWERS, PostInput: MutatorClosed()}).run(worker.run())
    assert worker.at_rest.acquire_now()
    worker.at_rest.release()
    script = Script(ANSWERS)
    script.run(worker.run())

    assert script.posted[-1] == SwitchEnded(1, COMPLETED)


def test_a_switch_is_carried_out_within_the_limit_it_begins_with(worker: IntentWorker) -> None:
    """What is left of the activation deadline is the engine's to say; a rollback has none."""
    script = Script({**ANSWERS, PostInput: MayBegin(42.0)})
    worker.add(SWITCH)
    worker.add(ROLLBACK)
    steps = script.run(worker.run())

    assert Switch(SWITCH, 42.0) in steps
    assert RollBack(ROLLBACK) in steps


def test_the_machine_is_not_at_rest_until_the_outcome_is_durable(worker: IntentWorker) -> None:
    """A worker that looked before that would find a closure that does not stay."""
    worker.add(SWITCH)
    work = worker.run()
    step, held = next(work), []
    for answer in ("old", Prepared("new"), MayBegin(None), "old", Done(), COMPLETED):
        held.append(worker.at_rest.acquire_now())
        if held[-1]:
            worker.at_rest.release()
        step = work.send(answer)
    held.append(worker.at_rest.acquire_now())
    assert step == PostInput(SwitchEnded(1, COMPLETED))
    assert held == [True, True, *[False] * 5]
    work.send(Done())
    assert worker.at_rest.acquire_now()


def test_it_is_idle_before_the_first_intent_and_after_the_last(worker: IntentWorker) -> None:
    """An agent that stops waits for a switch under way, and for nothing else: not for a closure."""

    def is_idle() -> bool:
        wakeup = next(worker.until_idle()).wakeup
        return wakeup is not None and wakeup.is_set

    idle = [is_idle()]
    worker.add(SWITCH)
    idle.append(is_idle())
    work = worker.run()
    next(work)
    looks = "old", MISSING, Done(), None, "old"
    for answer in (*looks, Prepared("new"), MayBegin(None), "old", Done(), COMPLETED):
        work.send(answer)
        idle.append(is_idle())
    work.send(Done())
    idle.append(is_idle())

    waiting = [True] * 5
    assert idle == [True, False, *waiting, *[False] * 5, True]


# Closures that are not here.


def test_a_closure_that_is_not_here_is_waited_for_longer_each_time(worker: IntentWorker) -> None:
    """Nothing begins, and so no attempt is counted, until it has come."""
    worker.add(SWITCH)
    found = [MISSING, MISSING, MISSING, Prepared("new")]
    script = Script({**ANSWERS, Prepare: found, Wait: [None] * 3})
    script.run(worker.run())

    assert script.waited == [0.5, 1.0, 2.0, None]
    assert script.posted == [
        *[ClosureAwaited(1, AWAITED)] * 3,
        IntentBegun(1),
        SwitchStarted(1, "directory"),
        SwitchEnded(1, COMPLETED),
    ]


def test_what_is_waited_for_is_told_until_it_has_come(
    worker: IntentWorker, refusals: Refusals
) -> None:
    """The heartbeat has the reason while the closure is not here, and no longer."""
    worker.add(SWITCH)
    work = worker.run()
    next(work)
    told = [refusals.current()]
    for answer in ("old", MISSING, Done(), None, "old", Prepared("new")):
        work.send(answer)
        told.append(refusals.current())

    awaited = (ActingRefusal(R1, AWAITED, NOW),)
    assert told == [(), (), *[awaited] * 4, ()]


def test_a_missing_closure_is_logged_once_and_so_is_its_coming(
    worker: IntentWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """The log does not grow with the waiting."""
    caplog.set_level(logging.INFO)
    worker.add(SWITCH)
    found = [MISSING, MISSING, MISSING, Prepared("new")]
    Script({**ANSWERS, Prepare: found, Wait: [None] * 3}).run(worker.run())

    activity = "fetching the closure of a switch"
    assert caplog.messages == [f"{activity} fails: {AWAITED}", f"{activity} works again"]


def test_a_long_reason_is_cut_and_has_no_secret(worker: IntentWorker, refusals: Refusals) -> None:
    """What a program printed goes to the control plane: within its limits, and without passwords."""
    worker.add(SWITCH)
    missing = ClosureNotHere("https://ci:hunter2@cache/ " + "no answer; " * 400)
    Script({**ANSWERS, Prepare: missing}).run(worker.run())

    (told,) = refusals.current()
    assert len(told.reason) == 512
    assert "hunter2" not in told.reason


def test_a_closure_that_goes_away_before_the_switch_is_waited_for(worker: IntentWorker) -> None:
    """A store may be cleaned between the look and the switch; that is no failed switch either."""
    worker.add(SWITCH)
    script = Script({**ANSWERS, Switch: [MISSING, COMPLETED], Wait: [None]})
    script.run(worker.run())

    assert [each for each in script.posted if isinstance(each, SwitchEnded)] == [
        SwitchEnded(1, COMPLETED)
    ]


def test_a_copy_whose_content_changes_is_waited_for(worker: IntentWorker) -> None:
    """A closure that is still being copied hashes to another name at each look."""
    worker.add(SWITCH)
    copies = [ClosureMismatch("new", f"part-{n}") for n in range(3)]
    script = Script({**ANSWERS, Prepare: [*copies, Prepared("new")], Wait: [None] * 3})
    script.run(worker.run())

    assert script.waited == [COPYING_SECONDS] * 3 + [None]
    assert script.posted[-1] == SwitchEnded(1, COMPLETED)


@pytest.mark.parametrize(
    "bad",
    [ClosureMismatch("new", "other"), SwitchFailed(SwitchPhase.VERIFY, 125, "setuid")],
    ids=["changed", "unfit"],
)
def test_a_bad_closure_is_not_waited_for(
    bad: ClosureMismatch | SwitchFailed, worker: IntentWorker
) -> None:
    """One with the same wrong content at two looks is spoilt, and its switch fails as such."""
    worker.add(SWITCH)
    script = Script({**ANSWERS, Prepare: bad, Switch: bad, Wait: [None]})
    script.run(worker.run())

    assert script.posted[-1] == SwitchEnded(1, bad)


def test_a_withdrawn_switch_stops_waiting(worker: IntentWorker, refusals: Refusals) -> None:
    """The wait ends at once, nothing begins, and the next intent follows."""
    worker.add(SWITCH)
    worker.add(ROLLBACK)
    found = Script({**ANSWERS, Prepare: MISSING, Wait: []})
    work = worker.run()
    step = next(work)
    while not isinstance(step, Wait):
        step = work.send(found.answer(step))
    worker.withdraw(SWITCH)
    assert step.wakeup is not None
    assert step.wakeup.is_set
    step = work.send(None)
    assert isinstance(step, ReadRunningClosure)
    step = work.send("old")
    assert isinstance(step, Prepare)
    assert step.unless.is_set
    step = work.send(None)

    assert step == PostInput(IntentBegun(ROLLBACK.intent_id))
    assert refusals.current() == ()
