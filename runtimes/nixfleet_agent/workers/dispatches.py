"""Waits for dispatches, and offers each to the engine with its verified manifest and what is running now."""

import logging
from typing import assert_never

from nixfleet_agent.messages.inputs import (
    DispatchOffered,
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    Done,
    Reply,
)
from nixfleet_agent.ports import AgentPorts, AgentSettings
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.intents import IntentWorker
from nixfleet_agent.workers.manifests import ManifestSource
from nixfleet_agent.workers.posting import TryOnce
from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.signing import VerifyError
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.transport import TransportFailed

_log = logging.getLogger(__name__)

BETWEEN_POLLS_SECONDS = 1.0
"""At least this long from one poll to the next: a dispatch comes again until its acknowledgement is durable, and
somebody on the way may answer every poll at once."""

AFTER_REFUSED_SECONDS = 30.0


class DispatchWorker:
    """The long-poll."""

    def __init__(
        self,
        settings: AgentSettings,
        ports: AgentPorts,
        manifests: ManifestSource,
        intents: IntentWorker,
        post: TryOnce,
        backoff: Backoff,
    ) -> None:
        self._settings = settings
        self._ports = ports
        self._manifests = manifests
        self._intents = intents
        self._post = post
        self._backoff = backoff
        self._trouble = Trouble(_log, "the poll for dispatches")

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            began_at = self._ports.clock.now()
            try:
                dispatch = await self._ports.transport.next_dispatch(
                    self._settings.poll_wait_seconds
                )
                self._trouble.is_over()
                if dispatch is not None:
                    await self._offer(dispatch)
                self._backoff.reset()
            except TransportFailed as error:
                self._trouble.goes_on(error.kind, error)
                await self._backoff.wait(error.retry_after_seconds)
            else:
                took_seconds = (self._ports.clock.now() - began_at).total_seconds()
                if took_seconds < BETWEEN_POLLS_SECONDS:
                    await self._ports.clock.sleep(BETWEEN_POLLS_SECONDS)

    async def _offer(self, dispatch: Dispatch) -> None:
        try:
            reply = await self._answer(dispatch)
        except (VerifyError, InvalidRolloutId) as error:
            await self._refuse(dispatch, str(error))
            return
        match reply:
            case DispatchTaken() | DispatchPostponed():
                await self._ports.clock.sleep(BETWEEN_POLLS_SECONDS)
            case DispatchRefused():
                await self._refuse(dispatch, reply.reason)
            case None:
                await self._backoff.wait()
            case Done():
                raise AssertionError(reply)
            case _:
                assert_never(reply)

    async def _answer(self, dispatch: Dispatch) -> Reply | None:
        manifest = await self._manifests.verified(RolloutId(dispatch.rollout_id))
        # What runs now becomes the rollback target. A rollback that ended between the look and the engine's
        # answer would make that the closure which was just left.
        async with self._intents.at_rest:
            running = await self._ports.activator.current()
            return await self._post(DispatchOffered(dispatch, manifest, running))

    async def _refuse(self, dispatch: Dispatch, reason: str) -> None:
        """The dispatch stays where it is: a fresh manifest may come, or an operator."""
        _log.error("not acting on the dispatch of %s: %s", dispatch.rollout_id, reason)
        await self._ports.clock.sleep(AFTER_REFUSED_SECONDS)
