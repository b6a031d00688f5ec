"""A server that cannot be used is refused by name, with what to do, and without a key."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from attrs import evolve, frozen
from starlette.applications import Starlette

from nixfleet_nats.buckets import Buckets
from nixfleet_nats.connection import connect
from nixfleet_nats.control_plane_end import ControlPlaneEnd
from nixfleet_nats.errors import (
    AnotherFleet,
    BucketUnfit,
    JetStreamMissing,
    LoginRefused,
    NatsUnusable,
    PermissionMissing,
    ServerAsksNoProof,
    ServerTooOld,
    ServerUnreachable,
)
from nixfleet_nats.names import Bucket
from nixfleet_nats.nkeys import NonceRefused
from nixfleet_nats.server_config import ServerConfig
from nixfleet_nats.target import Target
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_testing.contracts.served_fleet import served_fleet
from tests.nats.conftest import KEY
from tests.nats.serving import served
from tools.nats.server import Server, free_port, running_server

pytestmark = pytest.mark.anyio

OTHER = SigningKey.generate()
GOOD = ServerConfig(KEY.public_key, Path()).text().replace('"127.0.0.1:4222"', '"127.0.0.1:{port}"')
GOOD = GOOD.replace('store_dir: "."', 'store_dir: "{directory}"')
USER = "users: [ { nkey:"


@frozen
class Refused:
    """The server's configuration, the error, and what it says of expectation and remedy."""

    config: str
    error: type[NatsUnusable]
    said: tuple[str, str]


REFUSED = {
    "no JetStream on the server": Refused(
        GOOD.replace('jetstream { store_dir: "{directory}" }', "").replace(
            "jetstream: enabled", ""
        ),
        JetStreamMissing,
        ("JetStream, for the server", "add `jetstream"),
    ),
    "no JetStream for the account": Refused(
        GOOD.replace("jetstream: enabled", ""),
        JetStreamMissing,
        ("and for the account", "`jetstream: enabled`"),
    ),
    "everyone is let in": Refused(
        'listen: "127.0.0.1:{port}"\njetstream { store_dir: "{directory}" }',
        ServerAsksNoProof,
        ("the proof of a key", "nixfleet control-plane nats-server"),
    ),
    "another control plane's key": Refused(
        ServerConfig(OTHER.public_key, Path())
        .text()
        .replace('"127.0.0.1:4222"', '"127.0.0.1:{port}"')
        .replace('store_dir: "."', 'store_dir: "{directory}"'),
        LoginRefused,
        ("to be let in with the key U", "log has the reason"),
    ),
    "a user with restrictions": Refused(
        GOOD.replace(USER, 'users: [ { permissions: { subscribe: { deny: ["nf.up.>"] } }, nkey:'),
        PermissionMissing,
        ("may do everything in its account", "nixfleet control-plane nats-server"),
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
async def test_a_server_that_is_not_configured_for_this_is_refused(
    server: Server, tmp_path: Path, case: Refused
) -> None:
    """At the start, each with an error of its own that says what to do."""
    with (
        TemporaryDirectory(prefix="nixfleet-nats-") as directory,
        running_server(Path(directory), case.config) as unfit,
    ):
        end = ControlPlaneEnd(Target((unfit.url,)), KEY, SystemClock())
        async with served_fleet(tmp_path) as fleet:
            with pytest.raises(case.error) as refused:
                async with end.serve_requests(fleet.service, Starlette()):
                    pass
    expected, remedy = case.said
    assert expected in str(refused.value)
    assert remedy in str(refused.value)
    assert unfit.url in str(refused.value)


async def test_a_server_that_is_not_there_keeps_nobody_from_starting(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Operators go on; the log says what was expected, once."""
    caplog.set_level(logging.ERROR)
    target = Target((f"nats://127.0.0.1:{free_port()}",))
    async with served(tmp_path, target) as control_plane:
        assert not control_plane.fleet.service.is_closing
    (line,) = [it for it in caplog.messages if "NATS" in it]
    assert line.startswith("no hosts over NATS: ")
    assert "found nothing that listens; check the address" in line


async def test_a_bucket_with_other_settings_is_refused(target: Target) -> None:
    """The error has both, and how to go on."""
    connection = await connect(target, KEY, "x", target.names.inbox("x"))
    try:
        name = target.names.bucket(Bucket.DESIRED_STATE)
        await connection.client.jetstream().create_key_value(bucket=name, history=5)
        with pytest.raises(BucketUnfit) as refused:
            await Buckets(connection, "nixfleet").prepare()
        assert "expected a history of 1" in str(refused.value)
        assert "found a history of 5" in str(refused.value)
        assert f"nats kv del {name}" in str(refused.value)
    finally:
        await connection.close()


async def test_a_prefix_of_another_fleet_is_refused(target: Target, server: Server) -> None:
    """And one of its own is not: two fleets share a server."""
    connection = await connect(target, KEY, "x", target.names.inbox("x"))
    try:
        await Buckets(connection, "shop").prepare()
        await Buckets(connection, "shop").prepare()
        with pytest.raises(AnotherFleet, match="give each fleet of an account a prefix") as refused:
            await Buckets(connection, "office").prepare()
        assert "'nixfleet, of the fleet office'" in refused.value.expected
        assert "'nixfleet, of the fleet shop'" in refused.value.found
    finally:
        await connection.close()


INFO = {
    "server_id": "NX",
    "version": "2.10.9",
    "proto": 1,
    "headers": True,
    "max_payload": 1048576,
    "auth_required": True,
    "nonce": "PXoWU7zWAMt75FY",
}


@asynccontextmanager
async def pretending(info: dict[str, object]) -> AsyncIterator[tuple[Target, list[bytes]]]:
    """Yield what pretends to be a server, and what clients said to it."""
    said: list[bytes] = []

    async def answer(client: SocketStream) -> None:
        async with client:
            await client.send(b"INFO " + json.dumps(info).encode() + b"\r\n")
            try:
                async for received in client:
                    said.append(received)
                    if not received.startswith((b"CONNECT", b"PING")):
                        return
                    await client.send(b"PONG\r\n" * received.count(b"PING\r\n"))
            except anyio.BrokenResourceError:
                pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        yield Target((f"nats://127.0.0.1:{listener.extra(SocketAttribute.local_port)}",)), said
        tasks.cancel_scope.cancel()


async def test_an_old_server_is_refused_by_its_version() -> None:
    """The error says which is needed, and which is there."""
    async with pretending(INFO) as (target, _):
        with pytest.raises(ServerTooOld, match=r"nats-server 2\.11 or later, found 2\.10\.9"):
            await connect(target, KEY, "web-01", "_INBOX.x")


async def test_a_server_that_wants_something_else_signed_gets_nothing() -> None:
    """The host's key signs facts and requests too: a nonce that could be one is refused, and nothing is sent."""
    info = {**INFO, "nonce": '{"hostname":"web-01"}'}
    async with pretending(info) as (target, said):
        with pytest.raises(NonceRefused):
            await connect(target, KEY, "web-01", "_INBOX.x")
        assert b"sig" not in b"".join(said)


async def test_a_server_that_does_not_begin_with_tls_is_not_spoken_to() -> None:
    """With `tls://` nothing is said in the clear, whatever the server says about itself."""
    async with pretending(INFO) as (target, said):
        (url,) = target.urls
        encrypted = evolve(target, urls=(url.replace("nats://", "tls://"),))
        with pytest.raises(ServerUnreachable, match="handshake_first"):
            await connect(encrypted, KEY, "web-01", "_INBOX.x")
        assert b"CONNECT" not in b"".join(said)
