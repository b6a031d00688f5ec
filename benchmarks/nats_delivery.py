"""nats_delivery: 5,000 hosts are connected to a NATS server and wait; then 50 of them are dispatched.

Memory: how much the server's process grew by, per connection. Delivery: from the commit of the dispatches, all in one
transaction, until each of the 50 has its message; the processes read the same monotonic clock. Ingest: batches of 64
facts, signed once, each answered after the commit, over NATS and over HTTP in turns, by clients that only write bytes
that they made before. The server is that of the tests. Nothing where there is no server.
"""

import asyncio
import json
import resource
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import anyio
from attrs import frozen

from benchmarks.client import Connection, chatter, post_of
from benchmarks.fleet import host_names, prepare_database
from benchmarks.harness import Figure, Scale, percentile, ratio, scratch
from benchmarks.life import ROLLOUT, life
from benchmarks.memory import resident_kib
from benchmarks.served import Nats, served
from nixfleet_nats.calls import STATUS, Request
from nixfleet_nats.names import Kind, Names
from nixfleet_nats.nkeys import Owner, nkey_of, signed_nonce
from nixfleet_nats.server_config import ServerConfig
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec import encode_event_batch
from nixfleet_proto.signing import SigningKey, sign_batch
from nixfleet_proto.wire import AgentEventEnvelope, EventBatch
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.signing.key_id import host_key_id
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request
from nixfleet_runtime.kernel.clock import SystemClock
from tools.nats.server import Server, running_server, why_not

KIB_AT_MOST, P99_MS_AT_MOST = 80.0, 20.0
CROWD = 100
"""So many connect at once: each is asked about at the control plane."""
BATCH, BATCHES_PER_HOST, SETTLED = 64, 4, 8
NAMES = Names()
_ANSWERS = b"1"
"""The number of the subscription to answers."""
CLOCK = SystemClock()


@frozen
class Run:
    """What one run came to."""

    kib_per_host: float
    delivered_ms: tuple[float, ...]
    over_nats: float
    over_http: float


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield memory per connection, how long a dispatch takes to arrive, and events a second over both roads."""
    if why_not() is not None:
        return
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    waiting, dispatches = scale.pick(5_000, 1_000, 20), scale.pick(50, 50, 5)
    hosts = scale.pick(64, 64, 2)
    runs = [_run(waiting, dispatches, hosts) for _ in range(scale.rounds)]
    memory = tuple(run.kib_per_host for run in runs)
    name = f"{waiting:,} idle connections, each in the server"
    yield Figure("nats_delivery", name, "KiB", memory, at_most=KIB_AT_MOST)
    for share, at_most in ((0.5, None), (0.99, P99_MS_AT_MOST)):
        name = f"{dispatches:,} dispatches, commit to delivery p{share * 100:.0f}"
        waits = tuple(percentile(run.delivered_ms, share) for run in runs)
        yield Figure("nats_delivery", name, "ms", waits, at_most=at_most)
    form = f"batches of {BATCH}, {hosts} connections"
    nats = Figure(
        "nats_delivery", f"{form}, NATS", "events/s", tuple(run.over_nats for run in runs)
    )
    http = Figure(
        "nats_delivery", f"{form}, HTTP", "events/s", tuple(run.over_http for run in runs)
    )
    yield nats
    yield http
    yield ratio("NATS / HTTP", nats, http)


def _run(waiting: int, dispatches: int, reporting: int) -> Run:
    with scratch() as directory:
        key = SigningKey.generate()
        key.save(directory / "nats.key")
        home = directory / "server"
        home.mkdir()
        with running_server(home, ServerConfig(key.public_key, home)) as server:
            kib, delivered = asyncio.run(_delivered(directory, server, waiting, dispatches))
            rates = asyncio.run(_reported(directory, server, reporting))
    return Run(kib, delivered, *rates)


async def _delivered(
    directory: Path, server: Server, waiting: int, dispatches: int
) -> tuple[float, tuple[float, ...]]:
    key, arrived = SigningKey.generate(), list[float]()
    nats = Nats(server.url, directory / "nats.key")
    async with served(directory / "waiting.sqlite", key, waiting, nats) as control_plane:
        before = resident_kib(str(server.pid))
        hosts, connections = host_names(waiting), list[_Host]()
        for start in range(0, waiting, CROWD):
            crowd = hosts[start : start + CROWD]
            connections += await asyncio.gather(*(_Host.open(server, it, key) for it in crowd))
        grown = resident_kib(str(server.pid)) - before
        async with anyio.create_task_group() as listening:
            for connection in connections:
                listening.start_soon(connection.note_dispatch, arrived)
            committed_at = await control_plane.publish(dispatches)
            while len(arrived) < dispatches:
                await anyio.sleep(0.05)
            listening.cancel_scope.cancel()
        for connection in connections:
            connection.close()
    return grown / waiting, tuple((at - committed_at) * 1e3 for at in arrived)


async def _reported(directory: Path, server: Server, count: int) -> tuple[float, float]:
    """Return the events a second over NATS and over HTTP, of as many hosts."""
    key, database = SigningKey.generate(), directory / "reporting.sqlite"
    hosts = host_names(2 * count)
    prepare_database(database, hosts)
    facts = chatter(life(), SETTLED, BATCH * BATCHES_PER_HOST)
    batches = [facts[at : at + BATCH] for at in range(0, len(facts), BATCH)]
    nats = Nats(server.url, directory / "nats.key")
    async with served(database, key, len(hosts), nats) as control_plane:
        over_nats = [await _Host.open(server, host, key) for host in hosts[:count]]
        messages = {it.hostname: [it.post_of(facts) for facts in batches] for it in over_nats}
        rate = await _rate(len(facts), messages, {it.hostname: it.ask for it in over_nats})
        over_http = {host: await Connection.open(control_plane.address) for host in hosts[count:]}
        posts = {host: [post_of(host, key, facts) for facts in batches] for host in over_http}
        asks = {host: _status_of(connection) for host, connection in over_http.items()}
        other_rate = await _rate(len(facts), posts, asks)
        for host in over_nats:
            host.close()
        for connection in over_http.values():
            connection.close()
    return rate, other_rate


def _status_of(connection: Connection) -> Callable[[bytes], Awaitable[int]]:
    async def ask(post: bytes) -> int:
        return (await connection.ask(post))[0]

    return ask


async def _rate(
    facts: int,
    posts: Mapping[str, Sequence[bytes]],
    asks: Mapping[str, Callable[[bytes], Awaitable[int]]],
) -> float:
    async def report(host: str) -> None:
        for post in posts[host]:
            assert await asks[host](post) == 204, host

    begun = perf_counter()
    async with anyio.create_task_group() as reporting:
        for host in posts:
            reporting.start_soon(report, host)
    return len(posts) * facts / (perf_counter() - begun)


class _Host:
    """A connection that costs little: it writes bytes that were made before, and reads lines."""

    def __init__(
        self,
        hostname: str,
        key: SigningKey,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.hostname = hostname
        self._key = key
        self._inbox = NAMES.inbox(nkey_of(key.public_key, Owner.USER))
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, server: Server, hostname: str, key: SigningKey) -> "_Host":
        """Connect as the host, and subscribe as an agent does."""
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        info = json.loads((await reader.readline()).removeprefix(b"INFO "))
        options = {
            "nkey": nkey_of(key.public_key, Owner.USER),
            "sig": signed_nonce(info["nonce"], key).decode(),
            "name": hostname,
            "auth_token": NAMES.prefix,
            "verbose": False,
            "headers": True,
            "no_responders": True,
            "protocol": 1,
        }
        made = cls(hostname, key, reader, writer)
        subscriptions = (
            f"SUB {made._inbox}.* {_ANSWERS.decode()}\r\nSUB {NAMES.desired_state(hostname)} 2\r\n"
        )
        connect = f"CONNECT {json.dumps(options)}\r\n"
        writer.write(f"{connect}{subscriptions}PING\r\n".encode())
        await made._until(b"PONG")
        return made

    async def note_dispatch(self, arrived: list[float]) -> None:
        """Note when the next message is there."""
        await self._until(b"MSG")
        arrived.append(perf_counter())

    def post_of(self, facts: Sequence[AgentEvent]) -> bytes:
        """Return the message that reports `facts`."""
        envelopes = tuple(AgentEventEnvelope(self.hostname, ROLLOUT, fact) for fact in facts)
        body = encode_event_batch(sign_batch(EventBatch(envelopes), self._key))
        target, key_id = paths.AGENT_EVENT_BATCHES, host_key_id(self.hostname)
        signed = sign_request(self._key, key_id, "POST", target, body, CLOCK.now(), new_nonce())
        asked = Request("POST", target, "", signed, body).message_headers
        head = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in asked.items())
        headers = f"{head}\r\n".encode()
        subject = NAMES.up(self.hostname, Kind.EVENTS)
        sizes = f"{len(headers)} {len(headers) + len(body)}"
        return f"HPUB {subject} {self._inbox}.1 {sizes}\r\n".encode() + headers + body + b"\r\n"

    async def ask(self, message: bytes) -> int:
        """Return the status of the answer."""
        self._writer.write(message)
        while True:
            head = (await self._until(b"HMSG")).split()
            answer = await self._reader.readexactly(int(head[-1]))
            if head[2] == _ANSWERS:
                return int(answer.partition(f"{STATUS}: ".encode())[2][:3])

    async def _until(self, verb: bytes) -> bytes:
        while not (line := await self._reader.readline()).startswith(verb):
            assert line, f"{self.hostname}: the server hung up"
            assert not line.startswith(b"-ERR"), line
            if line == b"PING\r\n":
                self._writer.write(b"PONG\r\n")
        return line

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
