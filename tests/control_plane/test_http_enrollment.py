"""Enrolling over the wire: the agent's own client against the real application."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nixfleet_agent.network.enrollment import EnrollmentRefused
from nixfleet_control_plane.http.routes.enrollment import refusal_of
from nixfleet_control_plane.messages.inputs import ListsUpdated
from nixfleet_control_plane.messages.key_ring import (
    DeclaredOtherwise,
    EnrollmentObjection,
    NonceNotListed,
    NonceUsed,
    RevokedUntil,
    SignedByAnother,
    TokenRefused,
    WrongFingerprint,
)
from nixfleet_proto.codec import encode_enroll_request
from nixfleet_proto.signing import NoOrgRootKey, SigningKey
from nixfleet_runtime.transport import TransportFailed
from tests.engines.releases import START, token_for
from tests.support.served_control_plane import CLOCK, Site, signed, site_with

pytestmark = pytest.mark.anyio

KEY, OTHER_KEY = SigningKey.generate(), SigningKey.generate()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A control plane that knows no key, and has a token of web-01 for KEY on its list."""
    async with site_with(tmp_path, enrolls=True) as site:
        now = CLOCK.now()
        nonces = site.publisher.nonces(now, token_for("web-01", KEY, now))
        await site.service.publish_lists(ListsUpdated(nonces=nonces))
        yield site


async def test_a_host_enrolls_and_is_known_at_once(site: Site) -> None:
    """Before, its requests are turned away; after the answer, they are let in."""
    wish = site.publisher.enrollment(token_for("web-01", KEY, CLOCK.now()), KEY)
    async with site.agent(key=KEY) as agent:
        with pytest.raises(TransportFailed, match="401 The key is unknown"):
            await agent.next_dispatch(0)
        await agent.enroll(wish.request)
        assert await agent.next_dispatch(0) is None
        await agent.enroll(wish.request)


async def test_a_host_that_may_not_enroll_is_told_why(site: Site) -> None:
    """The objection comes as a problem of its own type."""
    wish = site.publisher.enrollment(token_for("web-01", KEY, CLOCK.now(), "n-9"), KEY)
    async with site.agent(key=KEY) as agent:
        with pytest.raises(EnrollmentRefused) as refused:
            await agent.enroll(wish.request)
    assert refused.value.kind == "403 urn:nixfleet:problem:nonce-not-listed"
    assert "has no nonce 'n-9'" in str(refused.value)


async def test_a_wish_signed_with_another_key_is_turned_away(site: Site) -> None:
    """Whoever has a token and not the key cannot even ask."""
    wish = site.publisher.enrollment(token_for("web-01", KEY, CLOCK.now()), KEY)
    async with site.agent(key=OTHER_KEY) as impostor:
        with pytest.raises(EnrollmentRefused, match="The signature is invalid"):
            await impostor.enroll(wish.request)
    body = encode_enroll_request(wish.request)
    headers = signed("POST", "/v1/enroll", body, hostname="web-02", key=KEY)
    answer = await site.ask("POST", "/v1/enroll", body, headers)
    assert answer.json()["type"] == "urn:nixfleet:problem:unknown-key"


async def test_a_body_that_is_no_wish_is_refused_with_every_problem(site: Site) -> None:
    """What cannot be read is 422, whoever signed it."""
    body = b'{"token": {}, "publicKey": 3}'
    answer = await site.ask("POST", "/v1/enroll", body, signed("POST", "/v1/enroll", body, key=KEY))
    assert answer.status_code == 422
    assert {"$.publicKey", "$.token.token"} <= {it["path"] for it in answer.json()["problems"]}


OBJECTIONS: tuple[tuple[EnrollmentObjection, int], ...] = (
    (TokenRefused("web-01", NoOrgRootKey()), 401),
    (SignedByAnother("web-01", "ab", "cd"), 401),
    (WrongFingerprint("web-01", "ab", "cd"), 403),
    (NonceNotListed("web-01", "n-1"), 403),
    (RevokedUntil("web-01", START), 403),
    (NonceUsed("web-01", "n-1"), 409),
    (DeclaredOtherwise("web-01", "ab", "cd"), 409),
)


@pytest.mark.parametrize(("objection", "status"), OBJECTIONS, ids=lambda it: type(it).__name__)
def test_every_objection_has_its_status_and_says_itself(
    objection: EnrollmentObjection, status: int
) -> None:
    """401 for who it says it is, 403 for what it wants, 409 for what is there already."""
    problem = refusal_of(objection).problem
    assert (problem.status, problem.detail) == (status, str(objection))
