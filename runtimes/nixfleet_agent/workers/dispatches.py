"""Waits for dispatches, and offers each to the engine with its verified manifest and what is running now."""

import logging
from typing import assert_never

from nixfleet_agent.inputs import (
    DispatchOffered,
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    Done,
)
from nixfleet_agent.ports import AgentPorts, AgentSettings
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.manifests import fetch_verified
from nixfleet_agent.workers.post import Post
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.signing import VerifyError
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.transport import TransportFailed

_log = logging.getLogger(__name__)

AFTER_TAKEN_SECONDS = 1.0
"""The acknowledgement is on its way; until it is durable, the same dispatch would come again at once."""

AFTER_REFUSED_SECONDS = 30.0


class DispatchWorker:
    """The long-poll."""

    def __init__(self, settings: AgentSettings, ports: AgentPorts, post: Post) -> None:
        self._settings = settings
        self._ports = ports
        self._post = post
        self._backoff = Backoff(ports.clock)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                dispatch = await self._ports.transport.next_dispatch(
                    self._settings.poll_wait_seconds
                )
                if dispatch is not None:
                    await self._offer(dispatch)
                self._backoff.reset()
            except TransportFailed as error:
                _log.info("no dispatch: %s", error)
                await self._backoff.wait(error.retry_after_seconds)

    async def _offer(self, dispatch: Dispatch) -> None:
        try:
            reply = await self._post(await self._offered(dispatch))
        except (VerifyError, InvalidRolloutId) as error:
            await self._refuse(dispatch, str(error))
            return
        match reply:
            case DispatchTaken() | DispatchPostponed():
                await self._ports.clock.sleep(AFTER_TAKEN_SECONDS)
            case DispatchRefused():
                await self._refuse(dispatch, reply.reason)
            case Done():
                raise AssertionError(reply)
            case _:
                assert_never(reply)

    async def _offered(self, dispatch: Dispatch) -> DispatchOffered:
        manifest = await fetch_verified(
            RolloutId(dispatch.rollout_id),
            self._ports.transport,
            self._ports.trust,
            self._ports.clock,
            self._settings.freshness_window_minutes,
        )
        return DispatchOffered(dispatch, manifest, await self._ports.activator.current())

    async def _refuse(self, dispatch: Dispatch, reason: str) -> None:
        """The dispatch stays where it is: a fresh manifest may come, or an operator."""
        _log.error("not acting on the dispatch of %s: %s", dispatch.rollout_id, reason)
        await self._ports.clock.sleep(AFTER_REFUSED_SECONDS)
