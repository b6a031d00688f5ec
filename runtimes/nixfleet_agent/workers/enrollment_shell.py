"""Carries out the steps of the enrollment worker: calls over HTTP, and a token's file. No decisions."""

from functools import partial
from pathlib import Path
from typing import assert_never

from attrs import frozen

from nixfleet_agent.network.enrollment import NOT_KNOWN, load_token
from nixfleet_agent.network.http_transport import HttpTransport
from nixfleet_agent.workers.enrollment import AskWhetherKnown, Enroll, EnrollmentStep, ReadToken
from nixfleet_agent.workers.shell import wait
from nixfleet_agent.workers.steps import Wait
from nixfleet_proto.enrollment import SignedToken
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.process.threads import in_abandonable_thread
from nixfleet_runtime.transport import TransportFailed


@frozen
class EnrollmentShell:
    """Carries out the steps of an `EnrollmentWorker`."""

    transport: HttpTransport
    clock: Clock

    async def carry_out(self, step: EnrollmentStep) -> object:
        """Return the answer to `step`. Raises: what the step names."""
        match step:
            case Wait():
                await wait(step, self.clock)
            case AskWhetherKnown():
                return await is_known(self.transport)
            case ReadToken():
                return await in_abandonable_thread(partial(_token_in, step.file))
            case Enroll():
                await self.transport.enroll(step.request)
            case _:
                assert_never(step)
        return None


def _token_in(file: Path) -> SignedToken | None:
    try:
        return load_token(file)
    except FileNotFoundError:
        return None


async def is_known(transport: HttpTransport) -> bool:
    """Return whether the control plane knows this host's key. Raises: TransportFailed, when it does not answer."""
    try:
        # The one call that changes nothing on either side.
        await transport.next_dispatch(0)
    except TransportFailed as error:
        if error.kind in NOT_KNOWN:
            return False
        raise
    return True
