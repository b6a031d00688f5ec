"""An agent that really runs: its service, its workers, its journal; the machine, the network and time are a test's."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from nixfleet_agent.activation.activator import (
    Activator,
    Prepared,
    PrepareOutcome,
    RollbackFinished,
    SwitchCompleted,
    SwitchOutcome,
)
from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.journal.threaded_journal import ThreadedJournal
from nixfleet_agent.locks.program import LockProgram
from nixfleet_agent.messages.writes import Write
from nixfleet_agent.ports import AgentPorts, AgentSettings
from nixfleet_agent.service import AgentService, service_of
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec import HealthCheckSet, encode_health_checks, encode_manifest
from nixfleet_proto.fleet import Meta, RolloutPolicy
from nixfleet_proto.health_check import HEALTH_CHECKS_PATH
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import HostAssignment, RolloutManifest
from nixfleet_proto.signing import sign_artefact
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.transport import (
    ActingRefusal,
    EventsOutcome,
    Heartbeat,
    HeartbeatReply,
    TransportFailed,
)
from tests.agent.lone_agent import KEY, T0

HOST = "web-01"
R1 = RolloutId("stable@r1")
PATIENCE_SECONDS = 30.0
POLICY = RolloutPolicy()
SETTINGS = AgentSettings(HOST, failure_threshold_seconds=60, poll_wait_seconds=5)


class HostUnderTest:
    """An `Activator` whose switches a test can hold up, and which can be made unreadable."""

    switch_method = "directory"

    def __init__(self, store: Path) -> None:
        self.store = store
        self.running = "old"
        self.began: list[str] = []
        self.may_end = anyio.Event()
        self.may_end.set()
        self.is_unreadable = False

    def root_of(self, closure: str) -> Path:
        return self.store / closure

    def give(self, closure: str, checks: HealthCheckSet) -> None:
        """Put a closure with these health checks into the store."""
        path = self.root_of(closure) / HEALTH_CHECKS_PATH
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_health_checks(checks))

    async def current(self) -> str:
        await anyio.lowlevel.checkpoint()
        if self.is_unreadable:
            raise OSError(5, "Input/output error")
        return self.running

    async def prepare(self, closure: str) -> PrepareOutcome:
        return Prepared(closure)

    async def switch(
        self, closure: str, time_limit_seconds: float | None = None, order_id: str = ""
    ) -> SwitchOutcome:
        if self.running != closure:
            self.began.append(closure)
            await self.may_end.wait()
            self.running = closure
        return SwitchCompleted(closure, 0)

    async def rollback(self, closure: str, order_id: str = "") -> RollbackFinished:
        await self.switch(closure)
        return RollbackFinished(closure, 0)

    async def answered(self) -> None:
        await anyio.lowlevel.checkpoint()


class ControlPlane:
    """A `Transport` to a control plane that has one dispatch, takes everything, and can be away."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.is_away = False
        self.dispatch: Dispatch | None = None
        self.accepted: list[AgentEvent] = []
        self.heartbeats = 0
        self.refusals: tuple[ActingRefusal, ...] = ()
        self.polls = 0
        self.breaks: Callable[[], None] = lambda: None

    def release(
        self,
        closure: str = "new",
        soak_seconds: float = 60,
        channel_ref: str = "r1",
        policy: RolloutPolicy = POLICY,
    ) -> None:
        """Have a dispatch of stable@`channel_ref` for the host."""
        now = self.clock.now()
        rollout_id = RolloutId.of("stable", channel_ref)
        due = now.fromtimestamp(now.timestamp() + soak_seconds, now.tzinfo)
        self.dispatch = Dispatch(HOST, rollout_id, closure, due, now)
        manifest = RolloutManifest(
            channel="stable",
            channel_ref=channel_ref,
            display_name=str(rollout_id),
            fleet_resolved_hash="0" * 64,
            host_set=(HostAssignment(HOST, closure),),
            meta=Meta(now),
            rollout_policy=policy,
        )
        self.manifest = sign_artefact(encode_manifest(manifest), KEY)

    async def _reached(self) -> None:
        await anyio.lowlevel.checkpoint()
        if self.is_away:
            raise TransportFailed("no answer")

    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        await self._reached()
        self.accepted += [envelope.event for envelope in envelopes]
        self.dispatch = None
        return EventsOutcome(len(envelopes))

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        self.polls += 1
        await self._reached()
        if self.dispatch is None:
            await self.clock.sleep(wait_seconds)
            await self._reached()  # An outage cuts off the polls that wait.
        return self.dispatch

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        self.heartbeats += 1
        await self._reached()
        self.refusals = heartbeat.refusals
        self.breaks()
        return HeartbeatReply(self.clock.now())

    async def fetch_manifest(self, rollout_id: str) -> SignedArtefact | None:
        await self._reached()
        return self.manifest


class Disk(SqliteJournal):
    """A journal on a disk that a test can fill, and whose writes it can hold up until `may_end` is set."""

    is_full = False
    refused = 0
    may_end: threading.Event | None = None

    def commit(self, writes: Sequence[Write]) -> None:
        if self.may_end is not None:
            self.may_end.wait()
        if self.is_full:
            self.refused += 1
            raise sqlite3.OperationalError("database or disk is full")
        super().commit(writes)


class World:
    """What an agent stands on; it outlives the agent. activator: in place of `machine`."""

    def __init__(self, directory: Path, activator: Activator | None = None) -> None:
        self.clock = FakeClock(T0)
        self.machine = HostUnderTest(directory / "store")
        self.activator = activator or self.machine
        self.control_plane = ControlPlane(self.clock)
        self.directory = directory
        self.lock: LockProgram | None = None
        self.service: AgentService

    @asynccontextmanager
    async def agent(self, settings: AgentSettings = SETTINGS) -> AsyncIterator[Disk]:
        """Run an agent, and stop it in order at the end. Yields its journal."""
        journal = Disk(self.directory / "journal.db")
        behind = ThreadedJournal(journal)
        ports = AgentPorts(
            behind,
            self.control_plane,
            self.activator,
            self.clock,
            TrustRoot(KeySlot(KEY.public_key)),
            chance=lambda: 0.0,
            lock=self.lock,
        )
        self.service = await service_of(settings, ports)
        try:
            with anyio.fail_after(PATIENCE_SECONDS):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self.service.run)
                    yield journal
                    self.service.stop()
        finally:
            with anyio.CancelScope(shield=True):
                await behind.close()

    async def until(self, is_so: Callable[[], bool], step_seconds: float = 1.0) -> None:
        """Let time pass, and everybody work, until it is so."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while not is_so():
                self.clock.advance(step_seconds)
                # Journals and files are read in threads: those need real time too.
                await anyio.sleep(0.001)

    async def pass_time(self, seconds: int) -> None:
        """Let so many seconds pass, one by one."""
        until = self.clock.now().timestamp() + seconds
        await self.until(lambda: self.clock.now().timestamp() >= until)
