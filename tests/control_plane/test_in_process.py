"""The transport without a network: it asks the service, and turns its failures into no answer."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import anyio
import pytest

from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.in_process import InProcessTransport
from nixfleet_control_plane.messages.inputs import Action, Input, ManifestsOutcome, Reply
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_proto.agent_event import DispatchAck
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.kernel.engine import Commit
from nixfleet_runtime.transport import EventsOutcome, Heartbeat, TransportFailed
from tests.engines.releases import START, Layout, Publisher
from tests.engines.shaky_store import ShakyStore
from tests.support.served_control_plane import running_mutator, running_service

pytestmark = pytest.mark.anyio

ACK = AgentEventEnvelope("web-01", "stable@r1", DispatchAck("release-0", START, seq=1))
Call = Callable[[InProcessTransport], Awaitable[object]]
CALLS: dict[str, Call] = {
    "post_events": lambda transport: transport.post_events((ACK,)),
    "next_dispatch": lambda transport: transport.next_dispatch(0),
    "heartbeat": lambda transport: transport.heartbeat(_heartbeat()),
    "fetch_manifest": lambda transport: transport.fetch_manifest("stable@r1"),
}


@pytest.fixture
def store(scratch: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(scratch / "control-plane.sqlite")) as store:
        yield store


def _heartbeat() -> Heartbeat:
    return Heartbeat("web-01", "release-0", FrozenMap())


class PoisonedEngine(ControlPlaneEngine):
    """Fails on every input."""

    def handle(self, input: Input, now: datetime) -> Commit[Write, Reply, Action]:
        raise RuntimeError(f"cannot digest {type(input).__name__}")


async def _publish(service: ControlPlaneService) -> ManifestsOutcome:
    return await service.publish(Publisher().release(Layout(waves=(("web-01",),)), "r1", START))


async def test_a_host_is_served_as_over_any_transport(store: SqliteStore) -> None:
    """Dispatch, manifest, events and heartbeat are answered with what the control plane says."""
    async with running_service(store) as service:
        await _publish(service)
        transport = InProcessTransport(service, "web-01")
        dispatch = await transport.next_dispatch(60)

        assert dispatch is not None
        assert await transport.fetch_manifest(dispatch.rollout_id) is not None
        assert await transport.post_events((ACK,)) == EventsOutcome(1)
        assert await transport.next_dispatch(0) is None
        reply = await transport.heartbeat(_heartbeat())
        assert [record.last_event_seq for record in reply.bootstrap_rollouts] == [1]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_control_plane_that_is_closed_does_not_answer(
    store: SqliteStore, call: Call
) -> None:
    """Every call to a closed control plane fails as if no answer came."""
    async with running_service(store) as service:
        pass
    with anyio.fail_after(20), pytest.raises(TransportFailed):
        await call(InProcessTransport(service, "web-01"))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_control_plane_that_fails_does_not_answer(store: SqliteStore, call: Call) -> None:
    """Every call on which the control plane has a bug fails as if no answer came."""
    engine = PoisonedEngine(load_state(store))
    async with running_mutator(store, engine) as (service, _):
        with pytest.raises(TransportFailed, match="cannot digest"):
            await call(InProcessTransport(service, "web-01"))
        await service.close()


async def test_a_control_plane_with_a_full_disk_does_not_answer(store: SqliteStore) -> None:
    """Events that could not be made durable are not acknowledged: no answer comes."""
    shaky = ShakyStore(store)
    async with running_service(shaky) as service:
        await _publish(service)
        transport = InProcessTransport(service, "web-01")
        shaky.is_full = True
        with pytest.raises(TransportFailed, match="disk is full"):
            await transport.post_events((ACK,))
        shaky.is_full = False

        answer = await transport.heartbeat(_heartbeat())
        assert (answer.received_at, answer.replay_from) == (START, ())


async def test_a_control_plane_that_closes_during_a_poll_lets_the_host_go(
    store: SqliteStore,
) -> None:
    """A host that waits for a dispatch when the control plane closes gets its answer: none."""
    answers: list[object] = []

    async def poll(transport: InProcessTransport) -> None:
        answers.append(await transport.next_dispatch(600))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks, running_service(store) as service:
            tasks.start_soon(poll, InProcessTransport(service, "web-01"))
            await anyio.wait_all_tasks_blocked()

    assert answers == [None]
