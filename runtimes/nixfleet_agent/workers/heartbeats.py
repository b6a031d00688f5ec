"""Tells the control plane that the host lives and how far its journal goes, and takes home what it answers."""

import logging

import anyio.to_thread

from nixfleet_agent.messages.inputs import RecordBootstrapped, ReplayAsked
from nixfleet_agent.ports import AgentPorts, AgentSettings
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.manifests import ManifestSource
from nixfleet_agent.workers.posting import Post
from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_proto.signing import VerifyError
from nixfleet_runtime.transport import Heartbeat, HeartbeatReply, TransportFailed

_log = logging.getLogger(__name__)


class HeartbeatWorker:
    """The heartbeat: at once after a start, then regularly."""

    def __init__(
        self,
        settings: AgentSettings,
        ports: AgentPorts,
        manifests: ManifestSource,
        post: Post,
        backoff: Backoff,
    ) -> None:
        self._settings = settings
        self._ports = ports
        self._manifests = manifests
        self._post = post
        self._backoff = backoff
        self._trouble = Trouble(_log, "the heartbeat")

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self._take_home(
                    await self._ports.transport.heartbeat(await self._heartbeat())
                )
            except TransportFailed as error:
                self._trouble.goes_on(error.kind, error)
                # Until the two sides have met once, the agent does not know what it should take up.
                await self._backoff.wait(error.retry_after_seconds)
            else:
                self._trouble.is_over()
                self._backoff.reset()
                await self._ports.clock.sleep(self._settings.heartbeat_seconds)

    async def _heartbeat(self) -> Heartbeat:
        running = await self._ports.activator.current()
        last_seqs = await anyio.to_thread.run_sync(self._ports.journal.last_seqs)
        return Heartbeat(self._settings.hostname, running, last_seqs)

    async def _take_home(self, reply: HeartbeatReply) -> None:
        for replay in reply.replay_from:
            await self._post(ReplayAsked(replay))
        for record in reply.bootstrap_rollouts:
            try:
                manifest = await self._manifests.verified(record.rollout_id)
            except VerifyError as error:
                _log.error("not continuing %s after a start: %s", record.rollout_id, error)
            else:
                await self._post(RecordBootstrapped(record, manifest))
