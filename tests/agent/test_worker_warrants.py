"""Warrants that come with a heartbeat are verified, and handed on; what is wrong with one is told."""

import logging
from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_agent.messages.inputs import WarrantObeyed, WarrantOffered, WarrantRefused
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.refusals import Refusals
from nixfleet_agent.workers.steps import PostInput, Wait
from nixfleet_agent.workers.warrants import WarrantIntake
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.signing.warrant import sign_warrant, verify_warrant
from nixfleet_proto.steering.warrant import SignedWarrant
from nixfleet_runtime.kernel.mutator import WriteFailed
from tests.agent.lone_agent import KEY, T0
from tests.agent.steps import Script
from tests.agent.test_engine_recalls import ADA, RECALL, TRUST

LOG = logging.getLogger("warrants")
GOOD = sign_warrant(RECALL, ADA)


class Desk:
    """An intake, and what it notes."""

    def __init__(self) -> None:
        self.refusals = Refusals(lambda: T0)
        post = RetryingPost(Backoff(lambda: 0.0), LOG)
        self.intake = WarrantIntake(lambda: TRUST, lambda: T0, post, self.refusals, LOG)

    def take(self, script: Script, *warrants: SignedWarrant) -> Script:
        script.run(self.intake.take(warrants))
        return script

    @property
    def told(self) -> list[str]:
        return [refusal.reason for refusal in self.refusals.current()]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_good_warrant_is_posted_until_it_is_durable(desk: Desk) -> None:
    """An order must not be lost to a full disk."""
    script = Script({PostInput: [WriteFailed(), WarrantObeyed()], Wait: [None]})
    desk.take(script, GOOD)

    assert script.posted == [WarrantOffered(verify_warrant(GOOD, TRUST, T0))] * 2
    assert desk.told == []


def test_a_warrant_that_the_engine_refuses_is_told_until_it_is_not_relayed_any_more(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """By the next heartbeats, and once in the log."""
    for _ in range(3):
        refused = WarrantRefused(RECALL.rollout_id, "order order-1 is for others")
        desk.take(Script({PostInput: refused}), GOOD)
    assert desk.told == ["order order-1 is for others"]
    assert len(caplog.messages) == 1
    desk.take(Script({}))

    assert desk.told == []


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        (sign_warrant(RECALL, SigningKey.generate()), "is not operator 'ada''s"),
        (sign_warrant(RECALL, KEY), "found the CI release key's"),
        (
            sign_warrant(evolve(RECALL, issued_at=T0 - timedelta(hours=1), expires_at=T0), ADA),
            "it expired at",
        ),
        (evolve(GOOD, warrant=evolve(RECALL, hosts=("web-01",))), "or the order was changed"),
    ],
    ids=["forged", "by CI", "expired", "redirected"],
)
def test_a_warrant_that_does_not_verify_never_reaches_the_engine(
    desk: Desk, signed: SignedWarrant, reason: str
) -> None:
    """A control plane that was taken over relays what it likes; nothing is posted."""
    script = desk.take(Script({}), signed)

    assert script.posted == []
    (told,) = desk.told
    assert reason in told
