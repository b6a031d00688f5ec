"""A transport without a network: connects an agent to a control plane in the same process, for tests and demos."""

from collections.abc import Iterator
from contextlib import contextmanager

from nixfleet_control_plane.service import AnotherHost, ControlPlaneService
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_runtime.kernel.mutator import EngineFault, MutatorClosed, QueueFull, WriteFailed
from nixfleet_runtime.transport import EventsOutcome, Heartbeat, HeartbeatReply, TransportFailed


class InProcessTransport:
    """The `Transport` of `hostname` to a control plane in this process."""

    def __init__(self, service: ControlPlaneService, hostname: str) -> None:
        self._service = service
        self._hostname = hostname

    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        """Return which of `envelopes` were accepted. Raises: TransportFailed."""
        with _as_transport_failure():
            return await self._service.take_events(self._hostname, envelopes)

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        """Return this host's queued dispatch, `None` if none came in time. Raises: TransportFailed."""
        with _as_transport_failure():
            return await self._service.next_dispatch(self._hostname, wait_seconds)

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """Return what each side lacks of the other's records. Raises: TransportFailed."""
        with _as_transport_failure():
            return await self._service.compare(self._hostname, heartbeat)

    async def fetch_manifest(self, rollout_id: str) -> SignedArtefact | None:
        """Return the manifest byte for byte as it was signed, `None` if unknown. Raises: TransportFailed."""
        with _as_transport_failure():
            return await self._service.manifest(rollout_id, self._hostname)


@contextmanager
def _as_transport_failure() -> Iterator[None]:
    try:
        yield
    except (AnotherHost, MutatorClosed, QueueFull, WriteFailed, EngineFault) as error:
        raise TransportFailed(str(error)) from error
