"""http_ingest: agents report over HTTP from another process, every request and every envelope or batch signed.

Single events at 256 connections; batches of 64, signed once, at 64 connections. Server and client have one core each,
and the client only writes bytes that it made before. Each answer is a 204 after the commit.
"""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import anyio

from benchmarks.client import Connection, chatter, post_of
from benchmarks.fleet import host_names, prepare_database
from benchmarks.harness import Figure, Scale, percentile, ratio, scratch
from benchmarks.life import life
from benchmarks.served import Served, served
from nixfleet_proto.signing import SigningKey

SETTLED = 8
BATCH, BATCHES_PER_HOST = 64, 4
SINGLES_PER_HOST = 40
SINGLES_AT_ONCE, BATCHES_AT_ONCE = 256, 64
SINGLES_AT_LEAST, BATCHES_AT_LEAST = 3_000, 25_000
TIMES_SINGLES_AT_LEAST = 6.0


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield events per second and the wait for an answer, for both forms."""
    single_hosts, batch_hosts = scale.pick(256, 128, 2), scale.pick(128, 64, 2)
    names = host_names((single_hosts + batch_hosts) * scale.rounds)
    with scratch() as directory:
        database = directory / "control-plane.sqlite"
        prepare_database(database, names)
        runs = asyncio.run(_runs(database, names, scale.rounds, single_hosts, batch_hosts))
    singles, batches = runs
    for name, of_form, at_least in (
        (f"single events, {SINGLES_AT_ONCE} connections", singles, SINGLES_AT_LEAST),
        (f"batches of {BATCH}, {BATCHES_AT_ONCE} connections", batches, BATCHES_AT_LEAST),
    ):
        rates = tuple(rate for rate, _ in of_form)
        yield Figure("http_ingest", name, "events/s", rates, at_least=at_least)
        slow = tuple(percentile(waits, 0.99) for _, waits in of_form)
        yield Figure("http_ingest", f"{name}, p99", "ms", slow)
    one, many = (Figure("http_ingest", "", "", tuple(rate for rate, _ in it)) for it in runs)
    yield ratio("batches / single events", many, one, at_least=TIMES_SINGLES_AT_LEAST)


Run = tuple[float, list[float]]


async def _runs(
    database: Path, names: tuple[str, ...], rounds: int, single_hosts: int, batch_hosts: int
) -> tuple[list[Run], list[Run]]:
    key = SigningKey.generate()
    singles: list[Run] = []
    batches: list[Run] = []
    async with served(database, key, len(names)) as server:
        fresh = iter(names)
        for _ in range(rounds):
            hosts = [next(fresh) for _ in range(single_hosts)]
            singles.append(await _posted(server, key, hosts, SINGLES_PER_HOST, 1))
            hosts = [next(fresh) for _ in range(batch_hosts)]
            batches.append(await _posted(server, key, hosts, BATCH * BATCHES_PER_HOST, BATCH))
    return singles, batches


async def _posted(
    server: Served, key: SigningKey, hosts: Sequence[str], count: int, batch: int
) -> Run:
    """Let each host report `count` facts in order; return events per second, and how long each post waited."""
    facts = chatter(life(), SETTLED, count)
    starts = range(0, count, batch)
    posts = {h: [post_of(h, key, facts[start : start + batch]) for start in starts] for h in hosts}
    at_once = min(len(hosts), SINGLES_AT_ONCE if batch == 1 else BATCHES_AT_ONCE)
    connections = [await Connection.open(server.address) for _ in range(at_once)]
    waits: list[float] = []

    async def client(connection: Connection, mine: Sequence[str]) -> None:
        for host in mine:
            for post in posts[host]:
                begun = perf_counter()
                status, body = await connection.ask(post)
                waits.append((perf_counter() - begun) * 1e3)
                assert status == 204, body

    begun = perf_counter()
    async with anyio.create_task_group() as clients:
        for index, connection in enumerate(connections):
            clients.start_soon(client, connection, hosts[index::at_once])
    rate = len(hosts) * count / (perf_counter() - begun)
    for connection in connections:
        connection.close()
    return rate, waits
