"""The poll asks the lock outside of every other lock, and takes what it said to the engine."""

import pytest

from nixfleet_agent.locks.lock import LockOutcome, LockQuestion
from nixfleet_agent.messages.inputs import (
    DispatchOffered,
    DispatchPostponed,
    Done,
    LockAnswered,
    LockDue,
    Reply,
)
from nixfleet_agent.workers.dispatches import BETWEEN_POLLS_SECONDS
from nixfleet_agent.workers.steps import AgentStep, AskLock, PollDispatch, PostInput, Wait
from nixfleet_proto.ids import RolloutId
from tests.agent.steps import Script, Stopped, carried_out
from tests.agent.test_worker_dispatches import ANSWERS, DISPATCH, MANIFEST, Poll

DUE = LockDue(LockQuestion(RolloutId("stable@r1"), "new", 1))
OUTCOME = LockOutcome(75, "a call is in progress")
OFFER = DispatchOffered(DISPATCH, MANIFEST, "old")


def script(said: Reply) -> Script:
    """The engine asks for the lock, and then says `said`."""
    answers = {PollDispatch: [DISPATCH], PostInput: [DUE, said], AskLock: OUTCOME, Wait: [None]}
    return Script({**ANSWERS, **answers})


def test_a_lock_that_is_due_is_asked_and_its_answer_is_told() -> None:
    """With the offer that it is about."""
    asked = script(DispatchPostponed())
    Poll().run(asked)
    assert AskLock(DUE.question) in asked.steps
    assert asked.posted == [OFFER, LockAnswered(OFFER, OUTCOME)]


@pytest.mark.parametrize("said", [Done(), DispatchPostponed()], ids=["yes", "not now"])
def test_after_an_answer_the_dispatch_is_polled_again_soon(said: Reply) -> None:
    """It may have been withdrawn meanwhile; and its postponement may not be known yet."""
    asked = script(said)
    Poll().run(asked)
    assert asked.waited[0] == BETWEEN_POLLS_SECONDS


def test_a_rollback_may_begin_while_the_lock_is_asked() -> None:
    """A user may take minutes, and a way back waits for nobody: what it waits for is free meanwhile."""
    poll, asked, free = Poll(), script(Done()), list[bool]()

    def answer(step: AgentStep) -> object:
        if isinstance(step, AskLock):
            free.append(poll.at_rest.acquire_now())
            raise Stopped
        return asked.answer(step)

    with pytest.raises(Stopped):
        carried_out(poll.worker.run(), answer)
    assert free == [True]
