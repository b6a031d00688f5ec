"""step_many_hosts: the reducer over 100,000 live hosts, visited at random, so that no record is in a cache.

The hosts are Soaking, with three probes; each event is the next probe result of whichever host comes. The
garbage collector is set as in the control-plane process.
"""

from collections.abc import Iterator, Sequence
from itertools import cycle
from random import Random

from attrs import evolve

from benchmarks.fleet import host_names, tuned_collector
from benchmarks.harness import Figure, Scale, Timed, race
from benchmarks.life import POLICY, T0, life, pending
from nixfleet_state_machine import HostRolloutState, Remote, step

AT_LEAST_PER_SECOND = 200_000
SOAKING_FROM, SOAKING_TO = 10, 26
SEED = 20_260_516


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the rate over the whole fleet."""
    count = scale.pick(100_000, 20_000, 20)
    hosts = [_soaking(name) for name in host_names(count)]
    visits = Random(SEED).choices(range(count), k=scale.pick(300_000, 60_000, 60))
    with tuned_collector():
        rates = race(scale, {f"{count:,} live hosts": lambda: _visiting(hosts, visits)})
    for rate in rates.values():
        yield evolve(rate, workload="step_many_hosts", at_least=AT_LEAST_PER_SECOND)


def _soaking(hostname: str) -> HostRolloutState:
    record = pending(hostname)
    for fact in life()[:SOAKING_FROM]:
        record, _ = step(record, Remote(fact), T0, POLICY)
    return record


def _visiting(hosts: list[HostRolloutState], visits: Sequence[int]) -> Timed:
    results = cycle(life()[SOAKING_FROM:SOAKING_TO])
    seqs = [host.last_event_seq for host in hosts]
    events: list[tuple[int, Remote]] = []
    for place in visits:
        seqs[place] += 1
        events.append((place, Remote(evolve(next(results), seq=seqs[place]))))

    def run() -> int:
        for place, event in events:
            hosts[place], _effects = step(hosts[place], event, T0, POLICY)
        return len(events)

    return run
