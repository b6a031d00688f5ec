"""growth: the cost of one event against the number of hosts, and against the age of the log. It must stay flat.

Engine and store, without the service's tasks: probe results of hosts taken at random, in batches of 256, committed
with `synchronous=FULL`. The processor's time is what counts: the disk has its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from random import Random
from statistics import median
from time import process_time

from attrs import evolve

from benchmarks.fleet import host_names, prepare_database, tuned_collector
from benchmarks.harness import Figure, Scale, scratch
from benchmarks.life import ROLLOUT, T0, life
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.messages.inputs import FlushRecords, HostEvents, Input
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.wire import AgentEventEnvelope

BATCH = 256
FLUSHED_PER_BATCH = 32
SETTLED = 8
SEED = 7
GROWTH_AT_MOST = 2.0


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield microseconds per event for each fleet, and for each age of one fleet's log."""
    sizes = tuple(scale.pick(full, full // 10, 10) for full in (1_000, 10_000, 100_000))
    portion = scale.pick(20, 5, 1)
    by_size = [(size, _costs(size, scale.rounds, portion)) for size in sizes]
    for size, costs in by_size:
        yield Figure("growth", f"{size:,} hosts", "µs/event", costs)
    yield _grown(f"{sizes[-1]:,} hosts / {sizes[0]:,} hosts", by_size[-1][1], by_size[0][1])
    ages = scale.pick(20, 6, 2)
    aged = _costs(sizes[1], ages, scale.pick(100, 20, 1))
    for first in range(0, ages, max(1, ages // 4)):
        window = aged[first : first + max(1, ages // 4)]
        rows = first * scale.pick(100, 20, 1) * BATCH
        yield Figure("growth", f"after {rows:,} more rows", "µs/event", window)
    quarter = max(1, ages // 4)
    yield _grown("the last quarter of the log / the first", aged[-quarter:], aged[:quarter])


def _grown(name: str, late: Sequence[float], early: Sequence[float]) -> Figure:
    value = median(late) / median(early)
    return Figure("growth", name, "×", (value,), "ratio", at_most=GROWTH_AT_MOST)


def _costs(size: int, portions: int, batches: int) -> tuple[float, ...]:
    """Return the microseconds per event of each portion, of so many batches."""
    with scratch() as directory:
        database = directory / "control-plane.sqlite"
        hosts = host_names(size)
        prepare_database(database, hosts)
        with closing(SqliteStore(database)) as store, tuned_collector():
            engine = ControlPlaneEngine(load_state(store))
            for start in range(0, size, BATCH):
                _handle(store, engine, [_settling(host) for host in hosts[start : start + BATCH]])
            speaker = _Speaker(hosts)
            return tuple(_cost(store, engine, speaker, batches) for _ in range(portions))


class _Speaker:
    """Hosts that speak in no order, each with its next probe result."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = hosts
        self._random = Random(SEED)
        self._seqs = dict.fromkeys(hosts, SETTLED)
        self._result = life()[-2]

    def batch(self) -> list[HostEvents]:
        """Return what the next hosts say."""
        return [self._says(host) for host in self._random.choices(self._hosts, k=BATCH)]

    def _says(self, host: str) -> HostEvents:
        self._seqs[host] += 1
        return HostEvents(host, _envelopes(host, (evolve(self._result, seq=self._seqs[host]),)))


def _cost(store: SqliteStore, engine: ControlPlaneEngine, speaker: _Speaker, batches: int) -> float:
    spent = 0.0
    for _ in range(batches):
        inputs: tuple[Input, ...] = (*speaker.batch(), FlushRecords(FLUSHED_PER_BATCH))
        begun = process_time()
        _handle(store, engine, inputs)
        spent += process_time() - begun
    return spent / (batches * BATCH) * 1e6


def _handle(store: SqliteStore, engine: ControlPlaneEngine, inputs: Sequence[Input]) -> None:
    commits = [engine.handle(input, T0) for input in inputs]
    store.commit([write for commit in commits for write in commit.writes])
    engine.settle()


def _settling(host: str) -> HostEvents:
    return HostEvents(host, _envelopes(host, life()[:SETTLED]))


def _envelopes(host: str, facts: Sequence[AgentEvent]) -> tuple[AgentEventEnvelope, ...]:
    return tuple(AgentEventEnvelope(host, ROLLOUT, fact) for fact in facts)
