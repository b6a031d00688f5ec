"""The worker for switches and rollbacks: one at a time, in order, none lost, and no rest before it is durable."""

import logging
from pathlib import Path

import pytest

from nixfleet_agent.activation.activator import NoRunningClosure, RollbackFinished, SwitchCompleted
from nixfleet_agent.messages.inputs import (
    AttemptsUsedUp,
    Done,
    Intent,
    IntentBegun,
    IntentKind,
    RollbackEnded,
    SwitchEnded,
    SwitchStarted,
)
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.intents import IntentWorker
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.steps import (
    PostInput,
    ReadRunningClosure,
    RollBack,
    Switch,
    Wait,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.kernel.mutator import MutatorClosed
from tests.agent.steps import Script

LOG = logging.getLogger("intents")
R1 = RolloutId("stable@r1")
SWITCH = Intent(1, IntentKind.SWITCH, R1, "new")
ROLLBACK = Intent(2, IntentKind.ROLLBACK, R1, "old")
COMPLETED = SwitchCompleted("new", 0)
ROLLED_BACK = RollbackFinished("old", 0)
ANSWERS = {
    ReadRunningClosure: "old",
    Switch: COMPLETED,
    RollBack: ROLLED_BACK,
    PostInput: Done(),
    Wait: [],
}


@pytest.fixture
def worker() -> IntentWorker:
    post = RetryingPost(Backoff(lambda: 0.0), LOG)
    return IntentWorker("directory", post, Backoff(lambda: 0.0), LOG)


def test_intents_are_carried_out_one_after_the_other(worker: IntentWorker) -> None:
    """Each is reported before the next one begins."""
    worker.add(SWITCH)
    worker.add(ROLLBACK)
    steps = Script(ANSWERS).run(worker.run())

    assert steps[:-1] == [
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


@pytest.mark.parametrize("intent", [SWITCH, ROLLBACK], ids=["switch", "rollback"])
def test_an_intent_that_the_engine_ended_is_not_carried_out(
    intent: Intent, worker: IntentWorker
) -> None:
    """It was begun too often: nothing of the machine is touched, and the next intent follows."""
    worker.add(intent)
    steps = Script({**ANSWERS, PostInput: AttemptsUsedUp()}).run(worker.run())

    assert steps[:-1] == [PostInput(IntentBegun(intent.intent_id))]


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), NoRunningClosure(Path("/run/current"))])
def test_a_machine_that_cannot_be_read_is_tried_again(
    error: Exception, worker: IntentWorker
) -> None:
    """The host is between two closures: the intent is not given up."""
    worker.add(SWITCH)
    answers = {**ANSWERS, ReadRunningClosure: [error, error, "old"], Wait: [None, None]}
    script = Script(answers)
    script.run(worker.run())

    assert script.waited == [0.5, 1.0, None]
    begun = [IntentBegun(1)] * 3
    assert script.posted == [*begun, SwitchStarted(1, "directory"), SwitchEnded(1, COMPLETED)]


def test_after_a_success_the_wait_is_short_again(worker: IntentWorker) -> None:
    """The next failure has another cause."""
    error = OSError(5, "I/O error")
    reads = [error, error, "old", error, "old"]
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


def test_the_machine_is_not_at_rest_until_the_outcome_is_durable(worker: IntentWorker) -> None:
    """A worker that looked before that would find a closure that does not stay."""
    worker.add(SWITCH)
    work = worker.run()
    step, held = next(work), []
    for answer in (Done(), "old", Done(), COMPLETED):
        held.append(worker.at_rest.acquire_now())
        step = work.send(answer)
    held.append(worker.at_rest.acquire_now())
    assert step == PostInput(SwitchEnded(1, COMPLETED))
    assert held == [False] * 5
    work.send(Done())
    assert worker.at_rest.acquire_now()


def test_it_is_idle_before_the_first_intent_and_after_the_last(worker: IntentWorker) -> None:
    """An agent that stops waits for a switch under way, and for nothing else."""

    def is_idle() -> bool:
        wakeup = next(worker.until_idle()).wakeup
        return wakeup is not None and wakeup.is_set

    idle = [is_idle()]
    worker.add(SWITCH)
    idle.append(is_idle())
    work = worker.run()
    next(work)
    for answer in (Done(), "old", Done(), COMPLETED):
        work.send(answer)
        idle.append(is_idle())
    work.send(Done())
    idle.append(is_idle())

    assert idle == [True, False, False, False, False, False, True]
