"""What counts as an answer of the control plane."""

import pytest

from nixfleet_agent.network.answers import failure_of
from nixfleet_agent.workers.contact import Contact
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
