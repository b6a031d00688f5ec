"""What it costs to refuse: processor time, bytes and memory of the attacked process, for each kind of hostile request.

The bounds are on processor time, which another process on the machine does not use up, and are several times what is
needed. HOSTILE_CONNECTIONS says over how many connections at once the costliest kinds are sent.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import pytest

from nixfleet_control_plane.open_files import raise_open_file_limit
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http import paths
from tests.control_plane.attacked import MEBIBYTE, Attacked, attacked
from tests.control_plane.hostile import one_round, signed_request
from tests.control_plane.test_http_hostile import SEED, require_refused, said_to

CPU_SECONDS_MAX = 0.06
"""Of a request without a body, or of a stranger's whatever its body."""
CPU_SECONDS_PER_MEBIBYTE_MAX = 0.4
"""Of a body that a host has signed: one of a mebibyte takes 0.1 s and less."""
ANSWER_SECONDS_MAX = 20
BYTES_OUT_MAX = 24 * 1024
RESIDENT_BYTES_MAX = 64 * MEBIBYTE
"""By how much the process may grow over one request."""

CONNECTIONS = int(os.environ.get("HOSTILE_CONNECTIONS", "2000"))
FLOODS_EACH = os.environ.get("HOSTILE_FLOODS") == "each"
FLOOD_CPU_SECONDS_MAX = 0.02
"""For each of many connections."""
IDLE_CPU_SECONDS_MAX = 0.005
"""For each of many connections that ask nothing."""
FLOOD_RESIDENT_BYTES_MAX = 320 * MEBIBYTE
"""For all of them: 64 MiB of bodies, and what a connection takes."""
DEAREST_KINDS = (
    "an enrollment of many objects with a member",
    "an enrollment of many objects with a member, small",
    "an unsigned body of a mebibyte",
    "a forged body of a mebibyte",
)
"""Flooded each by itself in every run. HOSTILE_FLOODS=each floods every other kind by itself too, in ten minutes."""
# One of each kind, whatever its variants: what is refused at the same place costs the same.
KINDS_OF_FLOODS = (
    "without any signature",
    "without Signature",
    "signed with another key",
    "another key id, 'host:nobody'",
    "method altered",
    "path or query altered",
    "Signature-Input altered at created=1",
    "Content-Digest altered",
    "too late or too early",
    "a name that is nobody's",
    "a path that leads nowhere",
    "another content type",
    "a coding",
    "another protocol version",
    "a body that is too large",
    "headers that are too large",
    "no HTTP, or hardly",
    "lengths that contradict each other",
    "chunks that are none, or hold a request",
    "pipelined garbage",
    "cut off",
    "an enrollment of many objects with a member",
    "an enrollment of many objects with a member, small",
    "an enrollment of many objects with a member, signed",
    "an enrollment of many long strings, small, signed",
    "an unsigned body of a mebibyte",
    "a forged body of a mebibyte",
)
"""What strangers can send without end. What takes a good signature is limited by host, and is flooded below."""
KINDS_OF_HOSTS_FLOODS = (
    "an envelope that is not this host's to send",
    "a batch that is not to be taken",
    "JSON that is none, or too much",
    "seq of another kind",
    "a wait that is none",
    "a host commands",
    "who may read commands",
    "a command that cannot be",
    "a batch of many objects with a member",
    "a batch in which everything is wrong",
    "a name of a mebibyte",
    "a heartbeat of many rollouts",
    "an explanation of nobody",
)
"""What a host or operator can send: each request signed anew, over a tenth of the connections."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """A control plane in a process of its own, in which web-01 is dispatched."""
    with attacked(tmp_path_factory.mktemp("attacked"), header_seconds_max=0.5) as process:
        # The first requests of a process cost what later ones do not: modules and readers are made then.
        for hostile in one_round(process.rollout_id, SEED):
            said_to(process.port, hostile)
        yield process


@pytest.fixture
def fresh_target(tmp_path: Path) -> Iterator[Attacked]:
    """As `target`, and nothing has been asked of it yet: its peak of memory is that of its start."""
    with attacked(tmp_path, header_seconds_max=30) as process:
        yield process


def test_no_hostile_request_costs_more_than_its_bound(target: Attacked) -> None:
    """Processor time, bytes out and growth, for every kind, one request at a time."""
    dearest: dict[str, tuple[float, int, int]] = {}
    for hostile in one_round(target.rollout_id, SEED):
        before = target.cost()
        answer = said_to(target.port, hostile)
        cost = target.cost().since(before)
        require_refused(hostile, answer)
        body_bytes = 0 if hostile.is_strangers else len(hostile.said)
        cpu_seconds_max = CPU_SECONDS_MAX + CPU_SECONDS_PER_MEBIBYTE_MAX * body_bytes / MEBIBYTE
        found = cost.cpu_seconds, len(answer), cost.resident_bytes
        dearest[hostile.kind] = max(found, dearest.get(hostile.kind, found))
        assert cost.cpu_seconds <= cpu_seconds_max, (hostile.kind, found)
        assert len(answer) <= BYTES_OUT_MAX, (hostile.kind, found)
        assert cost.resident_bytes <= RESIDENT_BYTES_MAX, (hostile.kind, found)
    for kind, found in sorted(dearest.items(), key=lambda it: it[1])[-12:]:
        print(f"{found[0] * 1e3:7.1f} ms {found[1]:6} B {found[2]:9} B  {kind}")  # noqa: T201  # with `pytest -s`


def test_all_kinds_of_strangers_requests_at_once_cost_no_more_than_their_bound(
    fresh_target: Attacked,
) -> None:
    """Side by side, in turn, over many connections: none makes another one dear."""
    connections = min(CONNECTIONS, raise_open_file_limit(CONNECTIONS + 200) - 200)
    by_kind = {it.kind: it.said for it in one_round(fresh_target.rollout_id, SEED)}
    said = [by_kind[kind] for kind in KINDS_OF_FLOODS]
    requests = [said[number % len(said)] for number in range(connections)]
    before = fresh_target.cost()
    heard = anyio.run(partial(flood, fresh_target.port, requests, heard_seconds_max=5))
    cost = fresh_target.cost().since(before)
    print(f"{cost.cpu_seconds:.2f} s {cost.resident_bytes} B {heard} B")  # noqa: T201
    assert cost.cpu_seconds <= FLOOD_CPU_SECONDS_MAX * connections
    assert cost.resident_bytes <= FLOOD_RESIDENT_BYTES_MAX
    assert heard <= BYTES_OUT_MAX * connections


@pytest.mark.parametrize("kind", KINDS_OF_FLOODS if FLOODS_EACH else DEAREST_KINDS)
def test_many_hostile_requests_at_once_cost_no_more_than_their_bound(
    fresh_target: Attacked, kind: str
) -> None:
    """The same request over many connections: what is held does not grow with their number."""
    connections = min(CONNECTIONS, raise_open_file_limit(CONNECTIONS + 200) - 200)
    (hostile, *_) = (it for it in one_round(fresh_target.rollout_id, SEED) if it.kind == kind)
    before = fresh_target.cost()
    heard = anyio.run(flood, fresh_target.port, [hostile.said] * connections)
    cost = fresh_target.cost().since(before)
    print(f"{cost.cpu_seconds:.2f} s {cost.resident_bytes} B {heard} B {kind}")  # noqa: T201
    assert cost.cpu_seconds <= FLOOD_CPU_SECONDS_MAX * connections
    assert cost.resident_bytes <= FLOOD_RESIDENT_BYTES_MAX
    assert heard <= BYTES_OUT_MAX * connections


@pytest.mark.parametrize(
    "kind",
    KINDS_OF_HOSTS_FLOODS if FLOODS_EACH else ("a batch of many objects with a member",),
)
def test_many_signed_requests_at_once_cost_no_more_than_their_bound(
    fresh_target: Attacked, kind: str
) -> None:
    """None of them is a replay; the limit of requests per host is out of the way."""
    connections = min(CONNECTIONS, raise_open_file_limit(CONNECTIONS + 200) - 200) // 10
    rounds = iter(lambda: list(one_round(fresh_target.rollout_id, SEED)), None)
    requests: list[bytes] = []
    while len(requests) < connections:
        requests += [it.said for it in next(rounds) if it.kind == kind]
    requests = requests[:connections]
    body_bytes = sum(map(len, requests))
    before = fresh_target.cost()
    heard = anyio.run(flood, fresh_target.port, requests)
    cost = fresh_target.cost().since(before)
    print(f"{cost.cpu_seconds:.2f} s {cost.resident_bytes} B {heard} B {kind}")  # noqa: T201
    signed_cost = CPU_SECONDS_PER_MEBIBYTE_MAX * body_bytes / MEBIBYTE
    assert cost.cpu_seconds <= FLOOD_CPU_SECONDS_MAX * connections + signed_cost
    assert cost.resident_bytes <= FLOOD_RESIDENT_BYTES_MAX
    assert heard <= BYTES_OUT_MAX * connections


VARIANTS = frozenset(
    {
        *("Content-Digest twice", "Signature altered", "Signature twice", "body altered"),
        *("path altered", "an operator's name is forged", "two protocol versions"),
        *('created is "now"', "created is -1", "created is 1.5", "created is 99999999999999"),
        *("created is 999999999999999", "pipelined behind one that closes"),
        *("currentClosureAtDispatch of another kind", "kind of another kind"),
        *("receivedAt of another kind", "without Content-Digest", "without Signature-Input"),
    }
)
"""Refused at the same place as a kind that is flooded."""


def test_every_kind_is_flooded_or_is_a_variant_of_one_that_is() -> None:
    """A new kind needs a place here."""
    flooded = (*KINDS_OF_FLOODS, *KINDS_OF_HOSTS_FLOODS)
    beginnings = {_first_words(kind) for kind in flooded}
    kinds = {it.kind for it in one_round(RolloutId("stable@r1"), SEED)}
    missing = {kind for kind in kinds if _first_words(kind) not in beginnings}
    assert missing <= VARIANTS, missing - VARIANTS
    assert set(flooded) <= kinds


def _first_words(kind: str) -> str:
    return " ".join(kind.split()[:2])


def test_many_bodies_of_a_host_at_once_are_held_within_the_budget(fresh_target: Attacked) -> None:
    """Each has a good signature, and none is complete: those for which there is no room are refused."""
    connections = min(CONNECTIONS, raise_open_file_limit(CONNECTIONS + 200) - 200)
    body = b"x" * MEBIBYTE
    requests = [
        signed_request("POST", paths.AGENT_EVENT_BATCHES, body).raw()[:-1]
        for _ in range(connections // 4)
    ]
    before = fresh_target.cost()
    anyio.run(flood, fresh_target.port, requests)
    cost = fresh_target.cost().since(before)
    print(f"{cost.cpu_seconds:.2f} s {cost.resident_bytes} B")  # noqa: T201
    assert cost.cpu_seconds <= FLOOD_CPU_SECONDS_MAX * connections
    assert cost.resident_bytes <= FLOOD_RESIDENT_BYTES_MAX


@pytest.mark.parametrize(
    "said", [b"", b"G", b"GET / HTTP/1.1\r\nHost: h\r\n"], ids=["nothing", "a byte", "half a head"]
)
def test_many_connections_that_ask_nothing_cost_little(fresh_target: Attacked, said: bytes) -> None:
    """The first of a process, too: nothing of a connection is costly before it has asked."""
    connections = min(CONNECTIONS, raise_open_file_limit(CONNECTIONS + 200) - 200)
    before = fresh_target.cost()
    heard = anyio.run(partial(flood, fresh_target.port, [said] * connections, heard_seconds_max=2))
    cost = fresh_target.cost().since(before)
    print(f"{cost.cpu_seconds:.2f} s {cost.resident_bytes} B {said!r}")  # noqa: T201
    assert cost.cpu_seconds <= IDLE_CPU_SECONDS_MAX * connections
    assert cost.resident_bytes <= FLOOD_RESIDENT_BYTES_MAX
    assert heard <= BYTES_OUT_MAX * connections


async def flood(
    port: int, requests: Sequence[bytes], heard_seconds_max: float = ANSWER_SECONDS_MAX
) -> int:
    """Send each request over a connection of its own, all at once; return how many bytes are answered."""
    heard = 0

    async def attack(request: bytes) -> None:
        nonlocal heard
        with suppress(OSError, anyio.BrokenResourceError):
            async with (
                await anyio.connect_tcp("127.0.0.1", port) as stream,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(_send, stream, request)
                with anyio.move_on_after(heard_seconds_max), suppress(anyio.EndOfStream):
                    while True:
                        chunk = await stream.receive()
                        heard += len(chunk)
                tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for request in requests:
            tasks.start_soon(attack, request)
    return heard


async def _send(stream: anyio.abc.ByteSendStream, request: bytes) -> None:
    with suppress(anyio.BrokenResourceError):
        await stream.send(request)
