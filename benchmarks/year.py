"""year: the size of the database over a year of a fleet, with retention and without.

A release a week, signed again every six hours. Each host soaks for three days, with a probe result an hour, told in
batches of a day, and converges. Engine and store are those of a control plane; time is a number. At the end of each
month the log is exported and dropped as `[retention]` with 30 days would.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.fleet import host_names, release
from benchmarks.harness import Figure, Scale, ratio, scratch
from benchmarks.life import PROBES, TARGET, life
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.history.retention.dropping import drop
from nixfleet_control_plane.history.retention.keeper import export_months
from nixfleet_control_plane.messages.inputs import FlushRecords, HostEvents, Input, PlanTick
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_proto.agent_event import AgentEvent, Converged, ProbeMode, ProbeResult, ProbeStatus
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.transport import EventsOutcome

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
RESULTS_A_DAY = 24
SOAK_DAYS = 3
SIGNED_EVERY = timedelta(hours=6)
KEEP_DAYS = 30
OF_MONTHS_AT_MOST = 4.0
"""What is kept is at most the month that goes on, the one before, and a release that began in the one before that."""


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the megabytes of the database at the end of each month, and how many months' worth are kept."""
    hosts, months = scale.pick(100, 30, 2), scale.pick(12, 12, 2)
    with scratch() as directory:
        kept = sizes(directory / "kept", hosts, months, has_retention=True)
        whole = sizes(directory / "whole", hosts, months, has_retention=False)
    for number, (ours, peer) in enumerate(zip(kept, whole, strict=True), start=1):
        yield Figure("year", f"{hosts} hosts, month {number}", "MB", (ours / 1e6,))
        yield Figure(
            "year", f"{hosts} hosts, month {number}, no retention", "MB", (peer / 1e6,), "peer"
        )
    yield ratio(
        "largest / grown in a month without",
        Figure("year", "", "MB", (max(kept),)),
        Figure("year", "", "MB", ((whole[-1] - whole[0]) / (months - 1),)),
        at_most=OF_MONTHS_AT_MOST,
    )


def sizes(directory: Path, hosts: int, months: int, *, has_retention: bool) -> list[int]:
    """Return the bytes of the database file at the end of each month."""
    exports = directory / "exports"
    exports.mkdir(parents=True)
    database = directory / "control-plane.sqlite"
    with closing(SqliteStore(database)) as store:
        fleet, measured = _Fleet(store, host_names(hosts)), list[int]()
        while len(measured) < months:
            month = fleet.now.month
            fleet.live_a_day()
            if fleet.now.month != month:
                if has_retention:
                    _retain(database, store, exports, fleet.now)
                measured.append(_bytes_of(database))
        return measured


def _retain(database: Path, store: SqliteStore, exports: Path, now: datetime) -> None:
    exported = export_months(database, exports, now - timedelta(days=KEEP_DAYS))
    if exported.start is not None:
        store.between_commits(lambda writer: drop(writer, exported.span))


def _bytes_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        return int(connection.execute(query).fetchone()[0])


class _Fleet:
    """Hosts that do the same every day, except on the first day of each week, when there is a release."""

    def __init__(self, store: SqliteStore, hosts: tuple[str, ...]) -> None:
        self.now = BEGIN
        self._store = store
        self._engine = ControlPlaneEngine(load_state(store))
        self._hosts = hosts
        self._days = 0
        self._told = 0
        self._writes: list[Write] = []
        self._rollout = RolloutId("stable@none")

    def live_a_day(self) -> None:
        morning = self.now
        if self._days % 7 == 0:
            self._release(f"r{self._days // 7}")
        while self.now < morning + timedelta(days=1):
            self.now = min(self.now + SIGNED_EVERY, morning + timedelta(days=1))
            self._ask(release(self._hosts, self.now, self._rollout), PlanTick())
        day = self._days % 7
        if day < SOAK_DAYS:
            self._tell(tuple(self._result(morning, hour) for hour in range(RESULTS_A_DAY)))
        elif day == SOAK_DAYS:
            self._tell((Converged(self.now, TARGET, self._told + 1),))
        self._ask(FlushRecords(len(self._hosts)))
        self._store.commit(self._writes)
        self._writes = []
        self._days += 1

    def _release(self, ref: str) -> None:
        self._rollout = RolloutId(f"stable@{ref}")
        self._ask(release(self._hosts, self.now, self._rollout), PlanTick())
        *before, _ = life(begin=self.now)
        self.now += timedelta(minutes=10)
        self._told = 0
        self._tell(tuple(before))

    def _result(self, morning: datetime, hour: int) -> ProbeResult:
        return ProbeResult(
            PROBES[hour % len(PROBES)],
            ProbeMode.ENFORCE,
            ProbeStatus.PASS,
            morning + timedelta(minutes=30 + 55 * hour),
            seq=self._told + 1 + hour,
        )

    def _tell(self, facts: tuple[AgentEvent, ...]) -> None:
        for host in self._hosts:
            envelopes = tuple(AgentEventEnvelope(host, self._rollout, fact) for fact in facts)
            self._ask(HostEvents(host, envelopes))
        self._told += len(facts)

    def _ask(self, *inputs: Input) -> None:
        for each in inputs:
            commit = self._engine.handle(each, self.now)
            if isinstance(commit.reply, EventsOutcome):
                assert commit.reply.stopped_by is None, commit.reply
            self._writes += commit.writes
        self._engine.settle()
