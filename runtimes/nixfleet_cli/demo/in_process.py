"""The demonstration's fleet in this very process: agents and control plane share it, and nothing happens to them."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
from attrs import frozen

from nixfleet_agent import service as agent
from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.journal.threaded_journal import ThreadedJournal
from nixfleet_agent.ports import AgentPorts, AgentSettings
from nixfleet_cli.demo.declaration import CHANNEL
from nixfleet_cli.demo.page import served_over_http
from nixfleet_cli.demo.releases import Published
from nixfleet_cli.demo.screen import Screen
from nixfleet_cli.demo.watch import Watch
from nixfleet_cli.demo.world import World, database_in, journal_in
from nixfleet_control_plane import service as control_plane
from nixfleet_control_plane.engine.guard_verdicts import GuardedRollout
from nixfleet_control_plane.in_process import InProcessTransport
from nixfleet_control_plane.judges.judge import Judge
from nixfleet_control_plane.judges.worker import JudgeWorker
from nixfleet_control_plane.messages.inputs import ManifestsUpdated, OperatorCommand
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import sign_approval, verify_fleet, verify_manifest
from nixfleet_proto.steering.approval import Approval, Decision
from nixfleet_release import load_release

NO_JUDGES: FrozenMap[str, Judge] = FrozenMap()


@frozen
class InProcess:
    """The `Runtimes` without a network."""

    world: World
    control_plane: ControlPlaneService
    _running: AsyncExitStack

    async def put_in_force(self, release: Path) -> None:
        """Verify the release in the directory `release`, and publish it."""
        update = _verified(self.world, release)
        outcome = await self.control_plane.publish(update)
        assert not outcome.refused, outcome

    async def switch_on(self, hostname: str) -> None:
        """Run the agent of `hostname` from now on."""
        (host,) = (host for host in self.world.hosts if host.hostname == hostname)
        journal = ThreadedJournal(SqliteJournal(journal_in(self.world.directory, hostname)))
        self._running.push_async_callback(journal.close)
        transport = InProcessTransport(self.control_plane, hostname)
        ports = AgentPorts(journal, transport, host.activator, self.world.clock, self.world.trust)
        await self._running.enter_async_context(agent.running(AgentSettings(hostname), ports))

    async def command(self, command: OperatorCommand) -> None:
        """Carry out what an operator orders, which must be taken."""
        outcome = await self.control_plane.command(command)
        assert outcome.refusal is None, outcome

    async def approve(self, rollout_id: RolloutId, operator: str, reason: str) -> None:
        """Sign, as `operator`, that the next wave may begin, which must be taken."""
        guards = self.guards(rollout_id)
        assert guards is not None, rollout_id
        approval = Approval(
            rollout_id,
            guards.guarded.wave,
            guards.manifest_hash,
            operator,
            Decision.APPROVE,
            reason,
            self.world.clock.now().replace(microsecond=0),
        )
        signed = sign_approval(approval, self.world.operators[operator])
        outcome = await self.control_plane.approve(signed)
        assert outcome.refusal is None, outcome

    def guards(self, rollout_id: RolloutId) -> GuardedRollout | None:
        """Return what the next wave of a rollout waits for, `None` if it waits for no guard."""
        return self.control_plane.guarded(rollout_id)

    def reached(self) -> AbstractAsyncContextManager[str]:
        """Serve the control plane on loopback while the context is open."""
        return served_over_http(self.world, self.control_plane)

    async def meet_trouble(self, published: Published, watch: Watch, screen: Screen) -> None:
        """Nothing happens."""


@asynccontextmanager
async def running_in_process(
    world: World, off: Collection[str] = (), judges: Mapping[str, Judge] = NO_JUDGES
) -> AsyncIterator[InProcess]:
    """Run the fleet of `world` while the context is open. off: the hosts that do not run at first."""
    async with AsyncExitStack() as opened:
        store = ThreadedStore(SqliteStore(database_in(world.directory)))
        opened.push_async_callback(store.close)
        async with AsyncExitStack() as running:
            service = await running.enter_async_context(
                control_plane.running(store, world.clock, trust=world.trust)
            )
            asking = await running.enter_async_context(anyio.create_task_group())
            asking.start_soon(JudgeWorker(service, judges, world.clock).run)
            running.callback(asking.cancel_scope.cancel)
            fleet = InProcess(world, service, running)
            for host in world.hosts:
                if host.hostname not in off:
                    await fleet.switch_on(host.hostname)
            yield fleet


def _verified(world: World, directory: Path) -> ManifestsUpdated:
    """Return what the release in `directory` says, with the proof that CI stands behind it."""
    saved, now = load_release(directory), world.clock.now()
    window = world.checked.declaration.channels[CHANNEL].freshness_window
    fleet = verify_fleet(saved.fleet, world.trust, now, freshness_window_minutes=window)
    manifests = (
        verify_manifest(
            signed,
            world.trust,
            now,
            freshness_window_minutes=window,
            expected_rollout_id=rollout_id,
        )
        for rollout_id, signed in saved.manifests.items()
    )
    return ManifestsUpdated(fleet, tuple(manifests))
