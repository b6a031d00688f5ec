"""What a host can do over NATS, and what it cannot, on a real server; and what is shown there."""

import json
from pathlib import Path

import anyio
import pytest
from attrs import evolve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nixfleet_agent.network.enrollment import NOT_KNOWN
from nixfleet_nats.agent_end import NatsRequests, connected
from nixfleet_nats.connection import Message, connect
from nixfleet_nats.link import Link
from nixfleet_nats.names import Bucket, Kind, token_of
from nixfleet_nats.nkeys import Owner, nkey_of
from nixfleet_nats.positions import decode_desired
from nixfleet_nats.read_models import state_key
from nixfleet_nats.target import Target
from nixfleet_proto.enrollment import EnrollRequest, Revocation
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import SigningKey, fingerprint_of
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.http.client import NoAnswer
from nixfleet_runtime.http.paths import AGENT_EVENTS
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_runtime.transport import Heartbeat, TransportFailed
from nixfleet_testing.contracts.histories import (
    CONVERGES,
    HOST,
    OTHER_HOST,
    PRIOR,
    ROLLOUT,
    T0,
    TARGET,
    record_after,
)
from nixfleet_testing.contracts.transport import enveloped
from tests.nats.conftest import KEY
from tests.nats.serving import KEYS, RING, served
from tests.support.enrolling_server import EnrollingServer, token_for

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 5
STATE = record_after(CONVERGES[:3]).state.value
NO_SEQS = FrozenMap[str, int]()


async def test_a_host_cannot_speak_or_listen_for_another(target: Target, tmp_path: Path) -> None:
    """Neither on its subjects, nor for its dispatches, its answers, the buckets, or the questions of the server."""
    names, other = target.names, nkey_of(KEYS[OTHER_HOST].public_key, Owner.USER)
    forbidden = [
        names.desired_state(OTHER_HOST),
        f"{names.inbox(other)}.*",
        names.all_up,
        "$KV.>",
        "$SYS.REQ.USER.AUTH",
        ">",
    ]
    async with served(tmp_path, target):
        inbox = names.inbox(nkey_of(KEYS[HOST].public_key, Owner.USER))
        connection = await connect(target, KEYS[HOST], HOST, inbox)

        async def heard(_: Message) -> None:
            raise AssertionError("nothing may be heard")

        try:
            for subject in forbidden[:3]:  # a connection has four subscriptions at most
                await connection.subscribe(subject, heard)
                await connection.settle()
            for subject in (
                names.up(OTHER_HOST, Kind.EVENTS),
                names.desired_state(HOST),
                f"$JS.API.STREAM.DELETE.KV_{names.bucket(Bucket.DESIRED_STATE)}",
                "$JS.API.INFO",
            ):
                await connection.publish(subject, b"x")
                await connection.settle()
            assert len(connection.denied) == 7, connection.denied
        finally:
            await connection.close()


async def test_a_key_of_another_host_is_a_key_that_is_not_known(
    target: Target, tmp_path: Path
) -> None:
    """It is let in to enroll, and every other call is answered as over HTTP: 401."""
    async with (
        served(tmp_path, target) as control_plane,
        connected(target, HOST, KEYS[OTHER_HOST], control_plane.clock) as stranger,
    ):
        with pytest.raises(TransportFailed) as refused:
            await stranger.post_events(enveloped(*CONVERGES[:1]))
        assert refused.value.kind in NOT_KNOWN
        assert control_plane.fleet.durable_facts() == []


async def test_a_host_that_is_revoked_is_disconnected(target: Target, tmp_path: Path) -> None:
    """Its poll ends at once, and it comes back as nobody."""
    ring = RING
    async with (
        served(tmp_path, target, lambda: ring) as control_plane,
        connected(target, HOST, KEYS[HOST], control_plane.clock) as host,
    ):
        assert await host.next_dispatch(0) is None
        ring = evolve(RING, revoked=FrozenMap({HOST: Revocation(HOST, T0.replace(year=2100))}))
        with anyio.fail_after(PATIENCE_SECONDS), pytest.raises(TransportFailed) as ended:
            await host.next_dispatch(60)
        assert ended.value.kind in {"ConnectionEnded", *NOT_KNOWN}
        with pytest.raises(TransportFailed) as refused:
            await host.heartbeat(Heartbeat(HOST, PRIOR, NO_SEQS))
        assert refused.value.kind in NOT_KNOWN


async def test_a_host_enrolls_over_nats_and_goes_on_as_itself(
    target: Target, tmp_path: Path
) -> None:
    """With its token, on a connection that can do nothing else; the next call is its own."""
    control_plane, key, clock = EnrollingServer(), SigningKey.generate(), SystemClock()
    async with (
        served(tmp_path, target, lambda: control_plane.ring, control_plane.app),
        connected(target, "web-01", key, clock) as host,
    ):
        with pytest.raises(TransportFailed) as unknown:
            await host.next_dispatch(0)
        assert unknown.value.kind in NOT_KNOWN
        await host.enroll(EnrollRequest(token_for(key), key.public_key.public_key))
        assert await host.next_dispatch(0) is None
        assert control_plane.enrollments == 1


async def test_a_manifest_that_is_larger_than_a_message_arrives_whole(
    target: Target, tmp_path: Path
) -> None:
    """In parts, and as it was."""
    manifest = bytes(range(256)) * 12_000  # three megabytes

    async def answer(request: Request) -> Response:
        return Response(b"s" * 64 if request.url.path.endswith("/signature") else manifest)

    app = Starlette(routes=[Route("/v1/rollouts/{rest:path}", answer)])
    async with (
        served(tmp_path, target, app=app) as control_plane,
        connected(target, HOST, KEYS[HOST], control_plane.clock) as host,
    ):
        found = await host.fetch_manifest(ROLLOUT)
        assert found is not None
        assert found.body == manifest
        assert found.signature == b"s" * 64


async def test_a_request_that_is_larger_than_a_message_is_not_sent(
    target: Target, tmp_path: Path
) -> None:
    """The error says how large a message may be, and what to change."""
    async with served(tmp_path, target) as control_plane:
        link = Link(target, HOST, KEYS[HOST])
        requests = NatsRequests(link, KEYS[HOST], control_plane.clock)
        try:
            with pytest.raises(
                NoAnswer, match=r"at most 1048576 bytes.*raise max_payload"
            ) as error:
                await requests.send("POST", AGENT_EVENTS, b"x" * 2_000_000)
            assert error.value.kind == "PayloadTooLarge"
        finally:
            await link.hang_up()


async def test_a_call_that_fails_within_is_answered(target: Target, tmp_path: Path) -> None:
    """As over HTTP, with 500: a host does not wait for an answer that will not come."""

    async def fail(request: Request) -> Response:
        raise RuntimeError("a fault")

    app = Starlette(routes=[Route("/v1/agent/dispatch", fail)])
    async with (
        served(tmp_path, target, app=app) as control_plane,
        connected(target, HOST, KEYS[HOST], control_plane.clock) as host,
    ):
        with anyio.fail_after(PATIENCE_SECONDS), pytest.raises(TransportFailed, match="500"):
            await host.next_dispatch(0)


async def test_what_was_committed_is_shown_in_the_buckets(target: Target, tmp_path: Path) -> None:
    """The dispatch while it waits, where the host is, who it is, and when it was heard."""
    async with served(tmp_path, target) as control_plane:
        await control_plane.fleet.publish()
        async with connected(target, HOST, KEYS[HOST], control_plane.clock) as host:
            assert await host.next_dispatch(0) is not None
            assert await _desired(target) == await host.next_dispatch(0)
            await host.post_events(enveloped(*CONVERGES[:3]))
            await host.heartbeat(Heartbeat(HOST, TARGET, NO_SEQS))
        await _gone(target, Bucket.DESIRED_STATE, token_of(HOST))
        state = await _shown(target, Bucket.DEVICE_STATE, state_key(HOST, ROLLOUT), STATE)
        assert state["hostname"] == HOST
        info = await _shown(target, Bucket.DEVICE_INFO, token_of(HOST))
        assert info["fingerprint"] == fingerprint_of(KEYS[HOST].public_key)
        assert "at" in await _shown(target, Bucket.DEVICE_HEARTBEAT, token_of(HOST))


async def test_buckets_that_are_not_as_they_should_be_are_corrected_at_the_next_connection(
    target: Target, tmp_path: Path
) -> None:
    """What is there too much, what is missing, and what is another's."""
    control_plane = await connect(target, KEY, "before", target.names.inbox("before"))
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    try:
        async with served(first, target):
            pass
        for key, value in ((token_of(OTHER_HOST), b"{}"), (token_of(HOST), b"a lie")):
            subject = target.names.key_subject(Bucket.DESIRED_STATE, key)
            await control_plane.publish(subject, value)
        await control_plane.settle()
        async with served(second, target) as again:
            await _gone(target, Bucket.DESIRED_STATE, token_of(OTHER_HOST))
            await again.fleet.publish()
            assert (await _desired(target)).rollout_id == ROLLOUT
    finally:
        await control_plane.close()


async def _value(target: Target, bucket: Bucket, key: str) -> bytes | None:
    reader = await connect(target, KEY, "reader", target.names.inbox("reader"))
    try:
        from nats.js.errors import KeyNotFoundError

        store = await reader.client.jetstream().key_value(target.names.bucket(bucket))
        try:
            return (await store.get(key)).value
        except KeyNotFoundError:
            return None
    finally:
        await reader.close()


async def _shown(target: Target, bucket: Bucket, key: str, having: str = "") -> dict[str, object]:
    """Return a value once it is there. A server tells nobody when it has stored it."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            value = await _value(target, bucket, key)
            if value is not None and having.encode() in value:
                found: dict[str, object] = json.loads(value)
                return found


async def _desired(target: Target) -> Dispatch:
    """Return the dispatch that is shown for the host, once one is."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            value = await _value(target, Bucket.DESIRED_STATE, token_of(HOST))
            desired = decode_desired(value or b"")
            if desired is not None:
                return desired.dispatch


async def _gone(target: Target, bucket: Bucket, key: str) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while await _value(target, bucket, key) is not None:
            pass
