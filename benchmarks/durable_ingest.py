"""durable_ingest: whole fleets report through the real service; each event is acknowledged when it is durable.

1,000 and 10,000 hosts live their 28 facts each, as fast as the service takes them: in batches of 28, 32 at a time, or
one by one, 256 at a time. Then a tenth of that rate, paced, for the latency of an acknowledgement without a crowd.
What was signed comes with each post, as it does from the network; signatures are not checked here.
In one process: the clients' tasks cost time too. Beside it: `eventsourcing` on SQLite, and bare inserts of
one row per event into the same table, 512 a transaction, with `synchronous=FULL`: a log without batches at its best.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter

import anyio
from attrs import frozen

from benchmarks.fleet import control_plane, envelopes, host_names, prepare_database
from benchmarks.harness import Figure, Scale, percentile, ratio, scratch
from benchmarks.life import FACTS_PER_LIFE
from benchmarks.peers import available_recorder
from nixfleet_control_plane.messages.inputs import Signed
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.codec.wire import batch_payload, envelope_payload
from nixfleet_proto.wire import AgentEventEnvelope, EventBatch
from nixfleet_runtime.storage.sqlite import transaction

POSTS_AT_ONCE = 256
BATCHES_AT_ONCE = 32
BARE_ROWS = 512
PACED_SHARE = 0.1
SIGNATURE = "5a" * 64
P99_FULL_MS, P99_TENTH_MS = 60.0, 10.0


@frozen
class Case:
    """A fleet, and how it reports."""

    hosts: int
    batch: int
    at_least: float | None

    @property
    def name(self) -> str:
        how = f"batches of {self.batch}" if self.batch > 1 else "one by one"
        return f"{self.hosts:,} hosts, {how}"

    @property
    def posts(self) -> int:
        """How often each host posts."""
        return -(-FACTS_PER_LIFE // self.batch)

    @property
    def at_once(self) -> int:
        return BATCHES_AT_ONCE if self.batch > 1 else POSTS_AT_ONCE


@frozen
class Post:
    """What a host posts at once."""

    envelopes: tuple[AgentEventEnvelope, ...]
    signed: Signed


@frozen
class Run:
    """What one run of a case came to: events a second, and how long each post waited, in milliseconds."""

    per_second: float
    waits_ms: tuple[float, ...]


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield throughput and latency for each case, the peers', and the share of the limit."""
    few, many = scale.pick(1_000, 1_000, 4), scale.pick(10_000, 4_000, 8)
    cases = (
        Case(few, FACTS_PER_LIFE, None),
        Case(few, 1, None),
        Case(many, FACTS_PER_LIFE, 80_000),
        Case(many, 1, 50_000),
    )
    runs: dict[str, list[Run]] = {case.name: [] for case in cases}
    tenths: dict[str, list[Run]] = {case.name: [] for case in cases[2:]}
    bare: list[float] = []
    peers: dict[str, list[float]] = {}
    for _ in range(scale.rounds):
        for case in cases:
            with scratch() as directory:
                database = directory / "control-plane.sqlite"
                full, tenth = anyio.run(
                    partial(_reported, database, case, paced=case.name in tenths),
                    backend_options={"use_uvloop": True},  # as the control-plane process has it
                )
                runs[case.name].append(full)
                if tenth is not None:
                    tenths[case.name].append(tenth)
                if case is cases[2]:
                    bare.append(_bare_inserts(database, directory / "bare.sqlite"))
        for name, rate in _peer_rates(scale):
            peers.setdefault(name, []).append(rate)
    yield from _shown(cases, runs, tenths)
    limit = Figure(
        "durable_ingest",
        f"bare inserts of a row per event, {BARE_ROWS} at a time",
        "events/s",
        tuple(bare),
        "limit",
    )
    yield limit
    for name, rates in peers.items():
        yield Figure("durable_ingest", name, "events/s", tuple(rates), "peer")
    best = Figure("durable_ingest", "", "", tuple(run.per_second for run in runs[cases[2].name]))
    yield ratio(f"{cases[2].name} / bare inserts", best, limit, at_least=0.25)


def _shown(
    cases: Sequence[Case], runs: dict[str, list[Run]], tenths: dict[str, list[Run]]
) -> Iterator[Figure]:
    for case in cases:
        done = runs[case.name]
        rates = tuple(run.per_second for run in done)
        yield Figure("durable_ingest", case.name, "events/s", rates, at_least=case.at_least)
        yield _latency(f"{case.name}, p50 at full load", done, 0.5, None)
        yield _latency(f"{case.name}, p99 at full load", done, 0.99, P99_FULL_MS)
        if case.name in tenths:
            yield _latency(f"{case.name}, p99 at a tenth", tenths[case.name], 0.99, P99_TENTH_MS)


def _latency(name: str, runs: Sequence[Run], share: float, at_most: float | None) -> Figure:
    values = tuple(percentile(run.waits_ms, share) for run in runs)
    return Figure("durable_ingest", name, "ms", values, at_most=at_most)


async def _reported(database: Path, case: Case, *, paced: bool) -> tuple[Run, Run | None]:
    """Let most hosts report at once, and then, if `paced`, the rest of them at a tenth of that rate."""
    hosts = host_names(case.hosts)
    said = posts(hosts, case.batch)
    prepare_database(database, hosts)
    rest = max(1, case.hosts // 20) if paced else 0
    async with control_plane(database) as service:
        full = await at_once(service, case, hosts[rest:], said)
        if not paced:
            return full, None
        return full, await _paced(service, case, hosts[:rest], said, full.per_second * PACED_SHARE)


async def at_once(
    service: ControlPlaneService,
    case: Case,
    hosts: Sequence[str],
    said: dict[str, tuple[Post, ...]],
) -> Run:
    """Let all hosts report, as many at a time as the case says."""
    waits: list[float] = []

    async def client(mine: Sequence[str]) -> None:
        for index in range(case.posts):
            for host in mine:
                post = said[host][index]
                begun = perf_counter()
                outcome = await service.take_events(host, post.envelopes, post.signed)
                waits.append((perf_counter() - begun) * 1e3)
                assert outcome.stopped_by is None, outcome

    begun = perf_counter()
    async with anyio.create_task_group() as clients:
        for index in range(case.at_once):
            clients.start_soon(client, hosts[index :: case.at_once])
    return Run(len(hosts) * FACTS_PER_LIFE / (perf_counter() - begun), tuple(waits))


async def _paced(
    service: ControlPlaneService,
    case: Case,
    hosts: Sequence[str],
    said: dict[str, tuple[Post, ...]],
    per_second: float,
) -> Run:
    """Post on a schedule, whether or not earlier posts were answered: a slow answer hides nothing."""
    waits: list[float] = []

    async def post(host: str, index: int, due: float) -> None:
        posted = said[host][index]
        outcome = await service.take_events(host, posted.envelopes, posted.signed)
        waits.append((perf_counter() - due) * 1e3)
        assert outcome.stopped_by is None, outcome

    begun = perf_counter()
    posts = [(host, index) for index in range(case.posts) for host in hosts]
    async with anyio.create_task_group() as posting:
        for number, (host, index) in enumerate(posts):
            due = begun + number * case.batch / per_second
            if (left := due - perf_counter()) > 0:
                await anyio.sleep(left)
            posting.start_soon(post, host, index, max(due, perf_counter()))
    return Run(len(hosts) * FACTS_PER_LIFE / (perf_counter() - begun), tuple(waits))


def posts(hosts: Sequence[str], batch: int) -> dict[str, tuple[Post, ...]]:
    """Return what each host posts, in order, as many facts at a time."""
    return {
        host: tuple(
            _post(lived[start : start + batch]) for start in range(0, FACTS_PER_LIFE, batch)
        )
        for host, lived in envelopes(tuple(hosts)).items()
    }


def _post(posted: tuple[AgentEventEnvelope, ...]) -> Post:
    if len(posted) == 1:
        return Post(posted, Signed(envelope_payload(posted[0]), SIGNATURE))
    return Post(posted, Signed(batch_payload(EventBatch(posted)), SIGNATURE))


def _bare_inserts(source: Path, target: Path) -> float:
    """Return how many events a second the same table takes as rows of their own, without its triggers and its chain."""
    with closing(sqlite3.connect(source)) as filled, closing(sqlite3.connect(target)) as empty:
        empty.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            empty.execute(f"PRAGMA {pragma}")
        schema = "SELECT sql FROM sqlite_master WHERE tbl_name = 'event_log' AND type != 'trigger'"
        for (statement,) in filled.execute(f"{schema} AND sql IS NOT NULL ORDER BY rowid"):
            empty.execute(statement)
        lines = filled.execute(
            "SELECT ts, kind, host_id, rollout_id, payload FROM log_lines ORDER BY event_log_seq"
        ).fetchall()
        rows = ((seq, *line, bytes(32), bytes(32)) for seq, line in enumerate(lines, start=1))
        insert = (
            "INSERT INTO event_log (seq, ts, kind, host_id, rollout_id, payload, prev_hash, hash)"
            " VALUES (?,?,?,?,?,?,?,?)"
        )
        count, begun = 0, perf_counter()
        while portion := list(islice(rows, BARE_ROWS)):
            with transaction(empty):
                empty.executemany(insert, portion)
            count += len(portion)
        return count / (perf_counter() - begun)


def _peer_rates(scale: Scale) -> Iterator[tuple[str, float]]:
    record = available_recorder()
    if record is None:
        return
    for per_save in (768, 12, 1):
        events = scale.pick(20_000, 4_000, 30) if per_save > 1 else scale.pick(2_000, 500, 5)
        with scratch() as directory:
            yield f"eventsourcing, {per_save} per save", record(directory, events, per_save)
