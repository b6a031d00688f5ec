"""A database with a long log: hosts lived their lives through the engine and the store, in large batches."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.fleet import host_names, prepare_database
from benchmarks.life import FACTS_PER_LIFE, ROLLOUT, at, life
from nixfleet_control_plane.engine import ControlPlaneEngine
from nixfleet_control_plane.inputs import FlushRecords, HostEvents, Input
from nixfleet_control_plane.loading import load_state
from nixfleet_control_plane.sqlite_store import SqliteStore
from nixfleet_control_plane.writes import Write
from nixfleet_proto.wire import AgentEventEnvelope

PORTION = 100


def write_log(path: Path, rows: int) -> int:
    """Write a log of about so many rows, and the cache of host records; return how many it is."""
    hosts = host_names(max(1, rows // FACTS_PER_LIFE))
    prepare_database(path, hosts)
    store = SqliteStore(path)
    try:
        state = load_state(store)
        engine = ControlPlaneEngine(state)
        for portion in _portions(hosts):
            writes: list[Write] = []
            inputs: tuple[Input, ...] = (*map(_whole_life, portion), FlushRecords(2 * PORTION))
            for input in inputs:
                writes += engine.handle(input, at(2 * FACTS_PER_LIFE * 60)).writes
            store.commit(writes)
            engine.settle()
        store.commit(engine.handle(FlushRecords(len(hosts) + 1), at(0)).writes)
        store.commit(engine.handle(FlushRecords(len(hosts) + 1), at(0)).writes)
        return state.head_seq
    finally:
        store.close()


def _portions(hosts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (hosts[start : start + PORTION] for start in range(0, len(hosts), PORTION))


def _whole_life(host: str) -> HostEvents:
    return HostEvents(host, tuple(AgentEventEnvelope(host, ROLLOUT, fact) for fact in life()))
