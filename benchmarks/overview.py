"""overview: `GET /v1/overview` without its way over the network, at 1,000, 10,000 and 100,000 hosts.

Ten waves and a budget of 5 % over all hosts; some hosts have converged, as many as the budget lets are under way, and
all others wait. Measured are the sentences and counts of the rollout, and their JSON; and the map of all hosts, with
names, which grows with the fleet.
"""

from collections.abc import Callable, Iterator
from time import perf_counter, process_time

from benchmarks.fleet import host_names, release, tuned_collector
from benchmarks.harness import Figure, Scale, ratio
from benchmarks.life import ROLLOUT, T0, at, life
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.inputs import HostEvents
from nixfleet_control_plane.overview.host_map import STANDING_NAMES, STATE_NAMES, map_waves
from nixfleet_proto.trust import OperatorRole
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.http.host_pages import HOST_MAP, HostMap
from nixfleet_runtime.http.overview import OVERVIEW, Asker, FleetCounts, Overview

WAVES, BUDGET_SHARE, LIVES, ASKED = 10, 20, 20, 50
AT_MOST_MS, GROWTH_AT_MOST, MAP_AT_MOST_MS, MAPS = 5.0, 3.0, 100.0, 5


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the time of an overview at each size, and how it grows."""
    sizes = tuple(scale.pick(full, full // 10, full // 50) for full in (1_000, 10_000, 100_000))
    engines = {size: _under_way(size) for size in sizes}
    found = {
        size: _measured(engines[size], size, scale, is_last=size == sizes[-1]) for size in sizes
    }
    yield from found.values()
    yield ratio(
        f"{sizes[-1]:,} hosts / {sizes[0]:,} hosts",
        found[sizes[-1]],
        found[sizes[0]],
        at_most=GROWTH_AT_MOST,
    )
    yield from _mapped(engines[sizes[1]], sizes[1], scale)


def _measured(engine: ControlPlaneEngine, size: int, scale: Scale, *, is_last: bool) -> Figure:
    at_most = AT_MOST_MS if is_last else None
    name = f"{size:,} hosts, one overview"
    return _timed(name, scale, lambda: _ask(engine), ASKED, at_most)


def _mapped(engine: ControlPlaneEngine, size: int, scale: Scale) -> Iterator[Figure]:
    name = f"{size:,} hosts, one map"
    yield _timed(name, scale, lambda: _map(engine), MAPS, MAP_AT_MOST_MS)
    yield Figure("overview", f"{name}, its bytes for a host", "B", (len(_map(engine)) / size,))


def _timed(
    name: str, scale: Scale, work: Callable[[], object], times: int, at_most: float | None
) -> Figure:
    walls, cpus = list[float](), list[float]()
    with tuned_collector():
        for _ in range(scale.rounds):
            wall, cpu = perf_counter(), process_time()
            for _ in range(times):
                work()
            walls.append((perf_counter() - wall) / times * 1e3)
            cpus.append((process_time() - cpu) / times * 1e3)
    return Figure("overview", name, "ms", tuple(walls), at_most=at_most, cpu=tuple(cpus))


def _map(engine: ControlPlaneEngine) -> bytes:
    manifest = engine.manifest_in_use(ROLLOUT)
    assert manifest is not None
    order = manifest.terms.hosts_in_order
    columns = engine.map_columns(ROLLOUT, order)
    waves = tuple(map_waves(manifest.terms))
    members = manifest.body_hash[:16]
    shown = HostMap(ROLLOUT, 0, members, STATE_NAMES, STANDING_NAMES, waves, *columns, order)
    return HOST_MAP.encode(shown)


def _ask(engine: ControlPlaneEngine) -> bytes:
    now = at(1_000)
    shown = Overview(
        head=engine.totals().head_seq,
        now=now,
        you=Asker("ada", OperatorRole.READ),
        fleet=FleetCounts(0, 0, 0, 0),
        needs_you=(),
        rollouts=engine.overviews(now, {}),
    )
    return OVERVIEW.encode(shown)


def _under_way(size: int) -> ControlPlaneEngine:
    """Return an engine in the middle of a rollout: few hosts have converged, and as many as may are under way."""
    engine, hosts = ControlPlaneEngine(State()), host_names(size)
    published = release(hosts, T0, waves=WAVES, max_in_flight=max(1, size // BUDGET_SHARE))
    engine.handle(published, T0)
    engine.settle()
    lives = min(LIVES, size // BUDGET_SHARE)
    for host in hosts[:lives]:
        envelopes = tuple(AgentEventEnvelope(host, ROLLOUT, fact) for fact in life())
        engine.handle(HostEvents(host, envelopes), at(1_000))
        engine.settle()
    return engine
