"""A database with a long log: hosts lived their lives through the engine and the store.

A life is reported in one batch. Every one is the same but for the host's name and the numbers of its rows. So the first
host and the last, which ends the rollout, live through the engine, and the others are the first one over again: its
writes, with their name and their numbers. The store makes them durable like any commit, with chain, indexes and
triggers. That they are what the engine would have written is seen whenever the views are rebuilt.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from attrs import evolve

from benchmarks.fleet import host_names, prepare_database
from benchmarks.life import FACTS_PER_LIFE, ROLLOUT, at, life
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.messages.inputs import FlushRecords, HostEvents, Input
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.messages.writes import (
    ClearProbeFailure,
    OpenProbeFailure,
    PutHostRecord,
    RemoveDispatch,
    SetRecordsThrough,
    Write,
)
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_proto.wire import AgentEventEnvelope

HOSTS_PER_COMMIT = 100


def write_log(path: Path, facts: int, uncached: int = 0) -> int:
    """Write a log of about so many facts, the views and the cache of host records; return how many it is.

    uncached: the last facts, at least so many, are of hosts whose record in the cache is as old as their dispatch.
    """
    hosts = host_names(max(2, facts // FACTS_PER_LIFE))
    cached = len(hosts) - uncached // FACTS_PER_LIFE
    prepare_database(path, hosts)
    with closing(SqliteStore(path)) as store:
        first = _life(store, hosts[0])
        store.commit(first)
        lived = [write for write in first if isinstance(write, LogRow)]
        others = [write for write in first if not isinstance(write, LogRow)]
        for start in range(1, len(hosts) - 1, HOSTS_PER_COMMIT):
            lives = [
                (hosts[index], index * len(lived))
                for index in range(start, min(start + HOSTS_PER_COMMIT, len(hosts) - 1))
            ]
            writes = [_again(row, *life) for life in lives for row in lived]
            # What is alike together: it is one statement.
            writes += [_again(write, *life) for write in others for life in lives]
            store.commit(writes if start + len(lives) <= cached else _uncached(writes))
        last = _life(store, hosts[-1])
        store.commit(_uncached(last) if uncached else last)
    return len(hosts) * FACTS_PER_LIFE


def _life(store: SqliteStore, host: str) -> list[Write]:
    """Let a host live through the engine; return what that writes, its record in the cache included."""
    engine = ControlPlaneEngine(load_state(store))
    envelopes = tuple(AgentEventEnvelope(host, ROLLOUT, fact) for fact in life())
    inputs: tuple[Input, ...] = (HostEvents(host, envelopes), FlushRecords(2))
    lived_at = at(2 * FACTS_PER_LIFE * 60)
    return [write for input in inputs for write in engine.handle(input, lived_at).writes]


def _again(write: Write, host: str, offset: int) -> Write:
    """Return a write of a life as that of another host, so many rows later."""
    match write:
        case LogRow():
            said = write.payload.replace(f'"{write.host_id}"', f'"{host}"')
            return write._replace(seq=write.seq + offset, host_id=host, payload=said)
        case OpenProbeFailure():
            return evolve(write, event_log_seq=write.event_log_seq + offset, host_id=host)
        case ClearProbeFailure():
            return evolve(
                write,
                event_log_seq=write.event_log_seq + offset,
                cleared_by_seq=write.cleared_by_seq + offset,
            )
        case RemoveDispatch():
            return evolve(write, hostname=host)
        case PutHostRecord():
            record = evolve(write.record, hostname=host)
            return PutHostRecord(record, write.event_log_seq + offset)
        case SetRecordsThrough():
            return SetRecordsThrough(write.event_log_seq + offset)
        case _:
            raise AssertionError(f"a life in the middle of a rollout does not write {write}")


def _uncached(writes: Sequence[Write]) -> list[Write]:
    return [write for write in writes if not isinstance(write, PutHostRecord | SetRecordsThrough)]
