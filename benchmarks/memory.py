"""memory: what the control plane holds in memory for a live host with three probes, everything included.

The hosts report through the engine up to their first probe results; each fact is decoded from its own bytes, as if it
had come over the network, so that hosts share no more than they would. Each round is a fresh process. What the objects
hold is the host's; what the process has resident is more: a release is read whole, and the room that took is kept.
"""

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fleet import host_names, release
from benchmarks.harness import Figure, Scale
from benchmarks.life import ROLLOUT, T0, life
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.inputs import FlushRecords, HostEvents
from nixfleet_proto.codec import decode_event, encode_event
from nixfleet_proto.wire import AgentEventEnvelope

AT_MOST_KIB = 4.0
FACTS = 10  # acknowledged, activated, declared, and a first result of each of three probes


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield KiB per host, each round in a process of its own."""
    hosts = scale.pick(5_000, 2_000, 50)
    held = tuple(_kib_per_host("held", hosts) for _ in range(scale.rounds))
    yield Figure("memory", f"{hosts:,} hosts, held by each", "KiB", held, at_most=AT_MOST_KIB)
    resident = tuple(_kib_per_host("resident", hosts) for _ in range(scale.rounds))
    yield Figure("memory", f"{hosts:,} hosts, resident for each", "KiB", resident)


def _kib_per_host(measure: str, hosts: int) -> float:
    source = f"from benchmarks import memory; print(memory.{measure}({hosts}))"
    done = subprocess.run([sys.executable, "-c", source], check=True, stdout=subprocess.PIPE)
    return float(done.stdout) / hosts


def held(count: int) -> float:
    """Return how many KiB are allocated for so many hosts, and not given back."""
    _report(host_names(1))  # What is loaded and cached once is not the hosts'.
    hosts = host_names(count)
    tracemalloc.start()
    engine = _report(hosts)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    assert engine is not None
    return kept / 1024


def resident(count: int) -> float:
    """Return how many KiB this process grows by with so many hosts."""
    _report(host_names(1))
    hosts = host_names(count)
    before = resident_kib()
    engine = _report(hosts)
    gc.collect()
    after = resident_kib()
    assert engine is not None
    return after - before


def _report(hosts: tuple[str, ...]) -> ControlPlaneEngine:
    bodies = [encode_event(fact) for fact in life()[:FACTS]]
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
