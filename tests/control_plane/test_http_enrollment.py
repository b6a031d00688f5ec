"""Enrolling over the wire: the agent's own client against the real application."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from attrs import evolve

from nixfleet_agent.network.enrollment import EnrollmentRefused
from nixfleet_agent.network.http_transport import HttpTransport
from nixfleet_control_plane.http.enrollment_problems import problem_of
from nixfleet_control_plane.http.server.limits import ENROLLMENT_BYTES_MAX
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
from nixfleet_proto.enrollment import Revocation
from nixfleet_proto.signing import NoOrgRootKey, SigningKey, fingerprint_of, sign_token
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
        with pytest.raises(EnrollmentRefused, match="The key is unknown"):
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


async def test_a_host_that_knocks_is_noted_and_a_stranger_is_not(site: Site) -> None:
    """Only a token that the organisation signed is worth an operator's time; a granted one ends it."""
    now = CLOCK.now()
    unlisted = site.publisher.enrollment(token_for("web-01", KEY, now, "n-9"), KEY).request
    forged = evolve(unlisted, token=evolve(unlisted.token, signature="00" * 64))
    async with site.agent(key=KEY) as agent:
        for request in (forged, unlisted, unlisted):
            with pytest.raises(EnrollmentRefused):
                await agent.enroll(request)
        (noted,) = site.service.notices.refused_enrollments
        await agent.enroll(site.publisher.enrollment(token_for("web-01", KEY, now), KEY).request)

    assert (noted.hostname, noted.kind, noted.count) == ("web-01", "nonce-not-listed", 2)
    assert noted.fingerprint == fingerprint_of(KEY.public_key)
    assert site.service.notices.refused_enrollments == ()


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
    problem = problem_of(objection)
    assert (problem.status, problem.detail) == (status, str(objection))


async def test_a_stranger_does_not_use_up_the_room_for_newcomers(site: Site) -> None:
    """A token that the org root key did not sign, or for another key, is refused before its nonce is kept."""
    token = token_for("web-01", KEY, CLOCK.now())
    forged = evolve(token, nonce="n-2")
    wish = site.publisher.enrollment(token, KEY)
    good = wish.request
    by_stranger = evolve(good, token=sign_token(forged, OTHER_KEY))
    stolen = evolve(good, public_key=OTHER_KEY.public_key.public_key)
    for request, key, name in (
        (by_stranger, KEY, "token-refused"),
        (stolen, OTHER_KEY, "wrong-fingerprint"),
    ):
        body = encode_enroll_request(request)
        headers = signed("POST", "/v1/enroll", body, key=key)
        for _ in range(2):
            # The second time the same nonce: had it been kept, it would be refused as used.
            answer = await site.ask("POST", "/v1/enroll", body, headers)
            assert answer.json()["type"] == f"urn:nixfleet:problem:{name}"


async def test_an_enrollment_that_is_too_large_is_refused_unread(site: Site) -> None:
    """A good one has a tenth of what may be sent; whoever is not known cannot send a mebibyte."""
    head = b"POST /v1/enroll HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    answer = await site.say(head % (ENROLLMENT_BYTES_MAX + 1))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"\r\nconnection: close\r\n" in answer


async def test_the_open_poll_of_a_host_that_is_revoked_ends(site: Site) -> None:
    """At once, as the next one: refused, to who has the key, with the reason."""
    wish = site.publisher.enrollment(token_for("web-01", KEY, CLOCK.now()), KEY)
    async with site.agent(key=KEY) as agent:
        await agent.enroll(wish.request)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refused_poll, agent)
                await anyio.lowlevel.checkpoint()
                at = CLOCK.now() + timedelta(hours=1)
                revoked = site.publisher.revocations(CLOCK.now(), Revocation("web-01", at))
                await site.service.publish_lists(ListsUpdated(revocations=revoked))
        with pytest.raises(TransportFailed, match="401 The key is revoked"):
            await agent.next_dispatch(0)


async def refused_poll(agent: HttpTransport, words: str = "401 The key is revoked") -> None:
    """Poll for a minute; the answer is a refusal."""
    with pytest.raises(TransportFailed, match=words):
        await agent.next_dispatch(60)


async def test_a_poll_signed_with_a_key_that_was_replaced_gets_no_dispatch(site: Site) -> None:
    """The host enrolled anew while it waited: what is queued then is for who has the new key."""
    old = site.publisher.enrollment(token_for("web-01", KEY, CLOCK.now()), KEY)
    token = token_for("web-01", OTHER_KEY, CLOCK.now(), "n-2")
    new = site.publisher.enrollment(token, OTHER_KEY)
    async with site.agent(key=KEY) as agent, site.agent(key=OTHER_KEY) as other:
        await agent.enroll(old.request)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refused_poll, agent, "401 The key is unknown")
                await anyio.lowlevel.checkpoint()
                nonces = site.publisher.nonces(CLOCK.now(), token)
                await site.service.publish_lists(ListsUpdated(nonces=nonces))
                await other.enroll(new.request)
                await site.publish()
        assert await other.next_dispatch(0) is not None
