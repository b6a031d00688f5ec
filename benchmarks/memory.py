"""memory: what the control plane holds in memory for a live host with three probes, everything included.

The hosts report through the engine up to their first probe results; each fact is decoded from its own bytes, as if it
had come over the network, so that hosts share no more than they would. Resident memory of a fresh process,
before and after, divided by the hosts; without the envelopes and the log.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fleet import host_names, release
from benchmarks.harness import Figure, Scale
from benchmarks.life import ROLLOUT, T0, life
from nixfleet_control_plane.engine import ControlPlaneEngine
from nixfleet_control_plane.inputs import FlushRecords, HostEvents
from nixfleet_control_plane.state import State
from nixfleet_proto.codec import decode_event, encode_event
from nixfleet_proto.wire import AgentEventEnvelope

AT_MOST_KIB = 4.0
FACTS = 10  # acknowledged, activated, declared, and a first result of each of three probes


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield KiB per host, each round in a process of its own."""
    hosts = scale.pick(20_000, 5_000, 50)
    values = tuple(_kib_per_host(hosts) for _ in range(scale.rounds))
    yield Figure("memory", f"{hosts:,} hosts, each", "KiB", values, at_most=AT_MOST_KIB)


def _kib_per_host(hosts: int) -> float:
    command = [sys.executable, "-c", f"from benchmarks import memory; print(memory.grown({hosts}))"]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) / hosts


def grown(count: int) -> float:
    """Return how many KiB this process grows by with so many hosts."""
    hosts = host_names(count)
    bodies = [encode_event(fact) for fact in life()[:FACTS]]
    _report(hosts[:1], bodies)  # What is loaded and cached once is not the hosts'.
    before = resident_kib()
    engine = _report(hosts, bodies)
    gc.collect()
    after = resident_kib()
    assert engine is not None
    return after - before


def _report(hosts: tuple[str, ...], bodies: list[bytes]) -> ControlPlaneEngine:
    engine = ControlPlaneEngine(State())
    engine.handle(release(hosts), T0)
    engine.settle()
    for host in hosts:
        for body in bodies:
            envelope = AgentEventEnvelope(host, ROLLOUT, decode_event(body))
            engine.handle(HostEvents(host, (envelope,)), T0)
            engine.settle()
    engine.handle(FlushRecords(len(hosts) + 1), T0)
    engine.settle()
    return engine


def resident_kib(process: str = "self") -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024
