"""Tells the control plane that the host lives and how far its journal goes, and takes home what it answers."""

import logging

from nixfleet_agent.inputs import RecordBootstrapped, ReplayAsked
from nixfleet_agent.ports import AgentPorts, AgentSettings
from nixfleet_agent.workers.manifests import fetch_verified
from nixfleet_agent.workers.post import Post
from nixfleet_proto.signing import VerifyError
from nixfleet_runtime.transport import Heartbeat, HeartbeatReply, TransportFailed

_log = logging.getLogger(__name__)


class HeartbeatWorker:
    """The heartbeat: at once after a start, then regularly."""

    def __init__(self, settings: AgentSettings, ports: AgentPorts, post: Post) -> None:
        self._settings = settings
        self._ports = ports
        self._post = post

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self._take_home(
                    await self._ports.transport.heartbeat(await self._heartbeat())
                )
            except TransportFailed as error:
                _log.info("no answer to the heartbeat: %s", error)
            await self._ports.clock.sleep(self._settings.heartbeat_seconds)

    async def _heartbeat(self) -> Heartbeat:
        running = await self._ports.activator.current()
        return Heartbeat(self._settings.hostname, running, self._ports.journal.last_seqs())

    async def _take_home(self, reply: HeartbeatReply) -> None:
        for replay in reply.replay_from:
            await self._post(ReplayAsked(replay))
        for record in reply.bootstrap_rollouts:
            try:
                manifest = await fetch_verified(
                    record.rollout_id,
                    self._ports.transport,
                    self._ports.trust,
                    self._ports.clock,
                    self._settings.freshness_window_minutes,
                )
            except VerifyError as error:
                _log.error("not continuing %s after a start: %s", record.rollout_id, error)
            else:
                await self._post(RecordBootstrapped(record, manifest))
