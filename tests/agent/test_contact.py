"""What counts as an answer of the control plane."""

import logging
from datetime import timedelta

import pytest

from nixfleet_agent.network.answers import failure_of
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_runtime.http.problem import HttpProblem
from nixfleet_runtime.transport import TransportFailed
from tests.agent.lone_agent import T0


def test_an_answer_is_noted_with_its_time() -> None:
    """Before the first one there is none."""
    contact = Contact(lambda: T0)
    assert contact.answered_at is None
    with contact.noted():
        pass

    assert contact.answered_at == T0


def test_a_refusal_is_an_answer() -> None:
    """It came all the way from the control plane, over an authenticated connection."""
    contact = Contact(lambda: T0)
    with pytest.raises(TransportFailed), contact.noted():
        raise failure_of(HttpProblem("about:blank", "Overloaded", 503, "later"))

    assert contact.answered_at == T0


def test_a_request_without_an_answer_is_no_contact() -> None:
    """A time-out, a refused connection, a certificate that is not the control plane's."""
    contact = Contact(lambda: T0)
    with pytest.raises(TransportFailed), contact.noted():
        raise TransportFailed("no answer in time")

    assert contact.answered_at is None


def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However often and by whomever the control plane is called meanwhile."""
    caplog.set_level("INFO")
    times = iter((T0, T0 + timedelta(seconds=40)))
    contact = Contact(lambda: next(times))
    trouble = Trouble(logging.getLogger("nixfleet_agent"), "the heartbeat")
    for problem in ("connection refused", "time-out"):
        with pytest.raises(TransportFailed) as failed, contact.noted():
            raise TransportFailed(problem)
        contact.failed(failed.value, trouble)
    with contact.noted():
        pass
    contact.failed(TransportFailed("status 500"), trouble)

    assert caplog.messages == [
        "the control plane is not reachable, and facts wait in the journal: connection refused",
        "the control plane is reachable again, after 40 s",
        "the heartbeat fails: status 500",
    ]
