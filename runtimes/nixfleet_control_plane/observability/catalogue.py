"""Every metric of a control plane, by its definition: what `/metrics` has, without a fleet.

The definitions are those that a control plane registers, read from one that is empty. Counters and histograms that are
made by the first event are named here. Those of retention are not: only some control planes have them.
"""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio

from nixfleet_control_plane.http.app import make_app
from nixfleet_control_plane.http.metrics import Definition, Metrics
from nixfleet_control_plane.messages.key_ring import KeyRing
from nixfleet_control_plane.observability.gauges import register_gauges
from nixfleet_control_plane.observability.overview_gauges import register_overview_gauges
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_control_plane.service import running
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_runtime.kernel.clock import SystemClock

NAME: Final = re.compile(r"nixfleet_[a-z_]+")


MADE_BY_EVENTS: Final = (
    Definition("nixfleet_events_total", "counter", "events from hosts", ("kind", "answer")),
    Definition(
        "nixfleet_host_transitions_total", "counter", "transitions of hosts", ("from", "to")
    ),
    Definition(
        "nixfleet_rollout_transitions_total", "counter", "transitions of rollouts", ("from", "to")
    ),
    Definition("nixfleet_verdicts_total", "counter", "what judges of guards said", ("outcome",)),
    Definition("nixfleet_host_activation_seconds", "histogram", "how long hosts take to switch"),
    Definition("nixfleet_host_soak_seconds", "histogram", "how long hosts soak"),
)


def catalogue() -> tuple[Definition, ...]:
    """As `definitions`, in an event loop of its own."""
    return anyio.run(definitions)


async def definitions() -> tuple[Definition, ...]:
    """Return every metric, by name."""
    metrics, clock = Metrics(), SystemClock()
    with TemporaryDirectory() as directory:
        database = Path(directory) / "empty.sqlite"
        store = ThreadedStore(SqliteStore(database))
        async with running(store, clock) as service:
            register_gauges(metrics, service, has_database_version=True)
            register_overview_gauges(metrics, service)
            make_app(service, KeyRing, SqliteQueries(database), clock, metrics=metrics)
        await store.close()
    found = {each.name: each for each in (*metrics.definitions, *MADE_BY_EVENTS)}
    return tuple(found[name] for name in sorted(found))
