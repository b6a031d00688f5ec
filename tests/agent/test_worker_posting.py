"""Posting to the engine: until durable where nothing may be lost, once where the next observation replaces it."""

import logging

import pytest

from nixfleet_agent.messages.inputs import Booted, Done, EventsAcknowledged, Input
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.steps import PostInput, Wait
from nixfleet_runtime.kernel.mutator import MutatorClosed, WriteFailed
from tests.agent.steps import Script, carried_out

BOOTED = Booted("old")


@pytest.fixture
def post() -> RetryingPost:
    return RetryingPost(Backoff(lambda: 0.0), logging.getLogger("posting"))


def test_an_input_is_posted_until_it_is_durable(post: RetryingPost) -> None:
    """However often the write fails, with longer waits in between."""
    script = Script({PostInput: [WriteFailed(), WriteFailed(), WriteFailed(), Done()]})

    assert carried_out(post.insist(BOOTED), script.answer) == Done()
    assert script.posted == [BOOTED] * 4
    assert script.waited == [0.5, 1.0, 2.0]


def test_an_input_that_is_tried_once_is_dropped_when_the_write_fails(post: RetryingPost) -> None:
    """No reply means that nothing happened."""
    script = Script({PostInput: [WriteFailed()]})

    assert carried_out(post.try_once(BOOTED), script.answer) is None
    assert script.steps == [PostInput(BOOTED)]


@pytest.mark.parametrize(
    ("second", "seconds"), [(BOOTED, 0.5), (EventsAcknowledged(()), 1.0)], ids=["same", "other"]
)
def test_the_wait_is_short_again_when_an_input_of_the_kind_that_failed_is_durable(
    second: Input, seconds: float, post: RetryingPost
) -> None:
    """One of another kind may have written nothing, and proves nothing."""
    Script({PostInput: [WriteFailed()]}).run(post.insist(BOOTED))
    Script({PostInput: Done()}).run(post.try_once(second))
    script = Script({PostInput: [WriteFailed()]})
    script.run(post.insist(BOOTED))

    assert script.waited == [seconds]


def test_a_failing_disk_is_logged_once_and_its_end_once(
    post: RetryingPost, caplog: pytest.LogCaptureFixture
) -> None:
    """Not once for each try."""
    with caplog.at_level(logging.INFO):
        script = Script({PostInput: [WriteFailed(), WriteFailed(), Done(), Done()]})
        carried_out(post.insist(BOOTED), script.answer)
        carried_out(post.insist(BOOTED), script.answer)

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_closed_mutator_is_not_posted_to_again(post: RetryingPost) -> None:
    """The agent is stopping."""
    script = Script({PostInput: MutatorClosed()})

    with pytest.raises(MutatorClosed):
        carried_out(post.insist(BOOTED), script.answer)
    assert not any(isinstance(step, Wait) for step in script.steps)
