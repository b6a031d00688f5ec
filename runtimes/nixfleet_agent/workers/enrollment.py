"""Makes this host known to its control plane, if it is not, as soon as there is a token and somebody to ask."""

import logging
from pathlib import Path

import anyio.to_thread

from nixfleet_agent.network.enrollment import (
    NOT_KNOWN,
    EnrollmentRefused,
    OwnKey,
    WrongToken,
    enroll_request,
    how_to_get_a_token,
    load_token,
)
from nixfleet_agent.network.http_transport import HttpTransport
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.transport import TransportFailed

_log = logging.getLogger(__name__)


class EnrollmentWorker:
    """Ends when the host is known. That it was enrolled before is asked of the control plane, and kept nowhere."""

    def __init__(
        self,
        hostname: str,
        own: OwnKey,
        token_file: Path | None,
        transport: HttpTransport,
        trust: TrustRoot,
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._hostname = hostname
        self._own = own
        self._token_file = token_file
        self._transport = transport
        self._trust = trust
        self._clock = clock
        self._backoff = backoff
        self._trouble = Trouble(_log, "enrollment")

    async def run(self) -> None:
        """Work until the host is known, or cancelled."""
        while not await self._is_done():
            await self._backoff.wait()
        self._backoff.reset()

    async def _is_done(self) -> bool:
        try:
            return await is_known(self._transport) or await self._enroll()
        except (TransportFailed, EnrollmentRefused) as error:
            self._trouble.goes_on(error.kind, error)
        except (WrongToken, DecodeError, OSError) as error:
            self._trouble.goes_on(str(error), f"{self._token_file}: {error}")
        return False

    async def _enroll(self) -> bool:
        file = self._token_file
        if file is None or not await anyio.to_thread.run_sync(file.exists):
            self._trouble.goes_on("no token", how_to_get_a_token(self._hostname, self._own, file))
            return False
        token = await anyio.to_thread.run_sync(load_token, file)
        request = enroll_request(token, self._hostname, self._own, self._trust, self._clock.now())
        await self._transport.enroll(request)
        _log.info("%s is enrolled with key %s", self._hostname, self._own.fingerprint)
        return True


async def is_known(transport: HttpTransport) -> bool:
    """Return whether the control plane knows this host's key. Raises: TransportFailed, when it does not say."""
    try:
        # The one call that changes nothing on either side.
        await transport.next_dispatch(0)
    except TransportFailed as error:
        if error.kind in NOT_KNOWN:
            return False
        raise
    return True
