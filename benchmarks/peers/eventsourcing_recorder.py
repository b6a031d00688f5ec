"""`eventsourcing` on SQLite as an application uses it: aggregates saved, with `synchronous=FULL`."""

from pathlib import Path
from time import perf_counter
from uuid import uuid4

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event


class Host(Aggregate):
    """Keeps how often it was told something, as the log is what is measured."""

    @event("Created")
    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.told = 0

    @event("Told")
    def tell(self, probe: str, status: str, observed_at: str) -> None:
        self.told += 1


def record(directory: Path, events: int, per_save: int) -> float:
    """Return how many events a second are durable when so many are saved at a time."""
    application = _application(directory)
    hosts = [Host(f"web-{index:05d}") for index in range(max(1, per_save // 28))]
    application.save(*hosts)
    begun = perf_counter()
    for start in range(0, events, per_save):
        for index in range(start, start + per_save):
            hosts[index % len(hosts)].tell("nginx", "pass", "2026-05-16T01:00:00Z")
        application.save(*hosts)
    saved = (events + per_save - 1) // per_save * per_save
    rate = saved / (perf_counter() - begun)
    application.close()
    return rate


def _application(directory: Path) -> Application:
    return Application(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(directory / f"{uuid4().hex}.sqlite"),
        }
    )
