"""The tick: time passes for the engine also when the running closure is being changed."""

import logging

import pytest

from nixfleet_agent.messages.inputs import Done, RunningClosureSeen, Tick
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.steps import (
    Lock,
    PostInput,
    ReadRunningClosure,
    ReadUnsentRollouts,
    Wait,
)
from nixfleet_agent.workers.ticks import TickWorker
from nixfleet_proto.ids import RolloutId
from tests.agent.steps import Script

UNSENT = frozenset({RolloutId("stable@r1")})


@pytest.mark.parametrize("is_switching", [False, True])
def test_a_tick_reports_the_running_closure_unless_it_is_being_changed(
    is_switching: bool,
) -> None:
    """The worker for switches reports the outcome."""
    at_rest = Lock()
    post = RetryingPost(Backoff(lambda: 0.0), logging.getLogger("ticks"))
    if is_switching:
        assert at_rest.acquire_now()
    answers = {ReadRunningClosure: "old", ReadUnsentRollouts: UNSENT, PostInput: Done()}
    script = Script({**answers, Wait: [None]})
    script.run(TickWorker(5.0, at_rest, post).run())

    observed = [] if is_switching else [RunningClosureSeen("old")]
    assert script.posted == [*observed, Tick(UNSENT)]
    assert script.waited == [5.0, 5.0]
    assert at_rest.acquire_now() is not is_switching
