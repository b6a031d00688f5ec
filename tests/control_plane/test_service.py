"""The service: polls that wait, ticks, and an end in good order. The engine and the store are the real ones."""

import logging
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from nixfleet_control_plane import service as service_module
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.messages.inputs import (
    Action,
    DispatchPoll,
    ExplainHost,
    Flushed,
    Input,
    PauseScope,
    PlaceHold,
    Reply,
)
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.service import (
    FLUSH_PORTION,
    AnotherHost,
    ControlPlaneService,
    running,
    seconds_to_tick,
)
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.store import BlockingStore
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    AgentEvent,
    DispatchAck,
    Failed,
    OnHealthFailure,
    RollbackComplete,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.kernel.engine import Commit
from nixfleet_runtime.kernel.mutator import MutatorClosed, WriteFailed
from nixfleet_runtime.kernel.write_failures import WriteOverdue
from nixfleet_runtime.transport import EventsOutcome, Heartbeat
from nixfleet_state_machine.host.effect import EmitMetric
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.releases import START, Layout, Publisher
from tests.engines.shaky_store import HeldUpStore, ShakyStore
from tests.support.served_control_plane import running_mutator, running_service
from tests.support.threaded import threaded

pytestmark = pytest.mark.anyio

LONG_SECONDS = 600.0
SHORT_SECONDS = 0.01
ONE_WAVE = Layout(waves=(("web-01", "web-02"),), max_in_flight=1)


@pytest.fixture
def store(scratch: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(scratch / "control-plane.sqlite")) as store:
        yield store


class CountingEngine(ControlPlaneEngine):
    """Notes what it was asked, in order."""

    def __init__(self, store: BlockingStore) -> None:
        self.asked: list[Input] = []
        super().__init__(load_state(store))

    def handle(self, input: Input, now: datetime) -> Commit[Write, Reply, Action]:
        self.asked.append(input)
        return super().handle(input, now)

    @property
    def polls(self) -> list[str]:
        return [input.hostname for input in self.asked if isinstance(input, DispatchPoll)]


class BusyEngine(ControlPlaneEngine):
    """Always has more to flush, as when hosts report all the time."""

    def handle(self, input: Input, now: datetime) -> Commit[Write, Reply, Action]:
        commit = super().handle(input, now)
        return evolve(commit, reply=Flushed(1)) if isinstance(commit.reply, Flushed) else commit


async def _publish(
    service: ControlPlaneService, channel_ref: str = "r1", layout: Layout = ONE_WAVE
) -> str:
    outcome = await service.publish(Publisher().release(layout, channel_ref, START))
    (rollout_id,) = outcome.taken
    return rollout_id


async def _tell(
    service: ControlPlaneService, hostname: str, rollout_id: str, *facts: AgentEvent
) -> EventsOutcome:
    envelopes = tuple(AgentEventEnvelope(hostname, rollout_id, fact) for fact in facts)
    return await service.take_events(hostname, envelopes)


def _facts_up_to_revert(closure: str) -> tuple[AgentEvent, ...]:
    policy = OnHealthFailure.ROLLBACK_AND_HALT
    return (
        DispatchAck("release-0", START, seq=1),
        ActivationCompleted(closure, 0, START, seq=2),
        Failed(START, 60, ("alive",), policy, seq=3),
        RollbackComplete("release-0", 0, START, seq=4),
    )


class Answers:
    """Notes what polls came to, by host."""

    def __init__(self, service: ControlPlaneService) -> None:
        self._service = service
        self.of: dict[str, Dispatch | None] = {}

    async def poll(self, hostname: str) -> None:
        self.of[hostname] = await self._service.next_dispatch(hostname, LONG_SECONDS)


# Polls.


async def test_a_poll_is_answered_at_once_when_a_dispatch_waits(store: SqliteStore) -> None:
    """Who polls with a dispatch in the queue does not wait."""
    async with running_service(store) as service:
        rollout_id = await _publish(service)
        dispatch = await service.next_dispatch("web-01", LONG_SECONDS)

    assert dispatch is not None
    assert (dispatch.hostname, dispatch.rollout_id) == ("web-01", rollout_id)


async def test_a_poll_that_does_not_want_to_wait_is_answered_at_once(store: SqliteStore) -> None:
    """A wait of no time comes back without a dispatch when none is there."""
    async with running_service(store) as service:
        assert await service.next_dispatch("web-01", 0) is None


async def test_a_poll_that_does_not_want_to_wait_gets_what_is_there(store: SqliteStore) -> None:
    """A wait of no time is enough for a dispatch that is there."""
    async with running_service(store) as service:
        await _publish(service)

        assert await service.next_dispatch("web-01", 0) is not None


async def test_a_poll_that_nothing_came_for_ends_with_its_time(store: SqliteStore) -> None:
    """When its time is over a poll comes back without a dispatch."""
    async with running_service(store) as service:
        assert await service.next_dispatch("web-01", SHORT_SECONDS) is None


async def test_a_poll_ends_when_whoever_asked_has_left(store: SqliteStore) -> None:
    """Nobody waits for an answer that nobody would hear."""
    left = anyio.Event()
    async with running_service(store) as service:
        left.set()
        with anyio.fail_after(5):
            assert await service.next_dispatch("web-01", LONG_SECONDS, left.wait) is None


async def test_a_poll_is_woken_by_its_dispatch(store: SqliteStore) -> None:
    """A poll that waits is answered as soon as a dispatch is queued for its host."""
    async with running_service(store) as service, anyio.create_task_group() as tasks:
        answers = Answers(service)
        tasks.start_soon(answers.poll, "web-01")
        await anyio.wait_all_tasks_blocked()
        await _publish(service)

    assert answers.of["web-01"] is not None


async def test_all_polls_of_a_host_are_woken_by_its_dispatch(store: SqliteStore) -> None:
    """A host that polls twice, as after a lost connection, is answered twice."""
    async with running_service(store) as service, anyio.create_task_group() as tasks:
        first, second = Answers(service), Answers(service)
        tasks.start_soon(first.poll, "web-01")
        tasks.start_soon(second.poll, "web-01")
        await anyio.wait_all_tasks_blocked()
        await _publish(service)

    assert first.of["web-01"] is not None
    assert first.of == second.of


async def test_a_poll_is_woken_by_its_name_only(store: SqliteStore) -> None:
    """The dispatch of one host does not make the others ask again."""
    engine = CountingEngine(store)
    async with running_mutator(store, engine) as (service, tasks):
        answers = Answers(service)
        for hostname in ("web-01", "web-02"):
            tasks.start_soon(answers.poll, hostname)
        await anyio.wait_all_tasks_blocked()
        await _publish(service)
        await anyio.wait_all_tasks_blocked()

        assert sorted(engine.polls) == ["web-01", "web-01", "web-02"]
        assert list(answers.of) == ["web-01"]
        await service.close()


async def test_a_dispatch_that_was_withdrawn_before_the_poll_woke_lets_it_wait_on(
    store: SqliteStore,
) -> None:
    """A poll that is woken for a dispatch which is gone again waits for the next one."""
    async with running_service(store) as service, anyio.create_task_group() as tasks:
        answers = Answers(service)
        tasks.start_soon(answers.poll, "web-02")
        await anyio.wait_all_tasks_blocked()
        rollout_id = await _publish(service)
        first = _facts_up_to_revert("r1-web-01")
        # Whatever is decided for web-02 in between, no rollout that was halted may hand it a dispatch.
        await _tell(service, "web-01", rollout_id, *first)
        await anyio.wait_all_tasks_blocked()
        assert answers.of == {}
        second = await _publish(service, "r2", Layout(waves=(("web-02",),)))

    assert answers.of["web-02"] is not None
    assert answers.of["web-02"].rollout_id == second


async def test_a_cancelled_poll_leaves_its_dispatch_in_the_queue(store: SqliteStore) -> None:
    """A connection that broke while its poll waited costs the host nothing."""
    async with running_service(store) as service:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.next_dispatch, "web-01", LONG_SECONDS)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        await _publish(service)

        assert await service.next_dispatch("web-01", 0) is not None


# What runs by itself.


async def test_a_tick_lets_what_is_due_happen(store: SqliteStore) -> None:
    """With the clock's time rollouts come to their end without anybody asking."""
    clock = FakeClock(START)
    async with running_service(store, clock) as service:
        rollout_id = await _publish(service)
        await _tell(service, "web-01", rollout_id, *_facts_up_to_revert("r1-web-01"))
        await anyio.wait_all_tasks_blocked()
        clock.advance(72 * 3600 + 5)
        await anyio.wait_all_tasks_blocked()

    ((record, _),) = store.load().rollouts
    assert record.state is RolloutState.PRUNED


async def test_a_hold_that_ends_between_two_ticks_ends_on_time(store: SqliteStore) -> None:
    """The timer is set to the edge, which people wait for: here eight seconds, with a tick every five."""
    clock = FakeClock(START)
    async with running_service(store, clock) as service:
        await _publish(service)
        until = START + timedelta(seconds=8)
        await service.command(PlaceHold(ChannelScope("stable"), "ada", "a moment", until))
        for seconds in (5, 2):
            await anyio.wait_all_tasks_blocked()
            clock.advance(seconds)
        await anyio.wait_all_tasks_blocked()
        assert len(service.holds()) == 1
        clock.advance(1)
        await anyio.wait_all_tasks_blocked()

        assert service.holds() == ()


@pytest.mark.parametrize(
    ("edge_seconds", "expected"), [(None, 5.0), (2, 2.0), (7, 5.0), (0, 5.0), (-3, 5.0)]
)
def test_the_next_tick_is_at_the_edge_if_that_is_earlier(
    edge_seconds: int | None, expected: float
) -> None:
    """One that a tick did not end is not waited for again: ticks would follow each other for ever."""
    edge = None if edge_seconds is None else START + timedelta(seconds=edge_seconds)
    assert seconds_to_tick(5.0, edge, START) == expected


async def test_a_tick_writes_records_behind(store: SqliteStore) -> None:
    """A tick after a fact brings the cache of host records up to date."""
    clock = FakeClock(START)
    async with running_service(store, clock) as service:
        await _publish(service)
        await anyio.wait_all_tasks_blocked()
        clock.advance(5)
        await anyio.wait_all_tasks_blocked()

        assert not tuple(store.load().tail)


async def test_a_tick_writes_more_records_behind_the_more_there_are(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many records a share is written, so that a start need not read the log of a quarter of an hour."""
    monkeypatch.setattr(service_module, "FLUSH_PORTION", 1)
    monkeypatch.setattr(service_module, "FLUSH_TICKS", 3)
    clock = FakeClock(START)
    async with running_service(store, clock) as service:
        hosts = tuple(f"web-{index:02}" for index in range(10))
        await _publish(service, layout=Layout(waves=(hosts,)))
        await anyio.wait_all_tasks_blocked()
        clock.advance(5)
        await anyio.wait_all_tasks_blocked()

        # One, and a third of the other nine.
        assert len(store.load().hosts) == 1 + 3


async def test_a_full_disk_at_a_tick_stops_nothing(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Ticks that find the disk full are logged once, the hosts are served on, and the next tick makes up for it."""
    clock = FakeClock(START)
    shaky = ShakyStore(store)
    async with running_service(shaky, clock) as service:
        await _publish(service)
        shaky.is_full = True
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()
            clock.advance(5)
            await anyio.wait_all_tasks_blocked()
        assert shaky.refused > 2
        shaky.is_full = False

        assert await service.next_dispatch("web-01", 0) is not None
        clock.advance(5)
        await anyio.wait_all_tasks_blocked()
        assert not tuple(store.load().tail)
    assert caplog.text.count("database or disk is full") == 1


async def test_transitions_are_counted(store: SqliteStore) -> None:
    """Metrics of committed transitions reach whoever records them."""
    metrics: list[EmitMetric] = []
    async with running_service(store, record_metric=metrics.append) as service:
        rollout_id = await _publish(service)
        await _tell(service, "web-01", rollout_id, DispatchAck("release-0", START, seq=1))

    transition = EmitMetric(
        "nixfleet_host_transitions_total", (("from", "Pending"), ("to", "Activating")), 1.0
    )
    assert transition in metrics


async def test_a_failed_rollback_is_told_to_the_operator(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A log effect becomes a log line of its level."""
    async with running_service(store) as service:
        rollout_id = await _publish(service)
        *facts, _ = _facts_up_to_revert("r1-web-01")
        failed = RollbackComplete("r1-web-01", 1, START, seq=4)
        await _tell(service, "web-01", rollout_id, *facts, failed)

    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "the rollback failed" in caplog.text


# Answers to the others.


async def test_an_operators_command_goes_ahead_of_what_waits(store: SqliteStore) -> None:
    """While the disk is slow, a command overtakes everything that was asked before it and waits."""
    held_up = HeldUpStore(store)
    engine = CountingEngine(held_up)
    async with running_mutator(held_up, engine) as (service, tasks):
        tasks.start_soon(_publish, service)
        assert await held_up.begun()
        tasks.start_soon(service.explain, "web-01")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(service.command, PauseScope(ChannelScope("stable"), "ada", "why"))
        await anyio.wait_all_tasks_blocked()
        held_up.let_go()
        await service.close()

    kinds = [type(input) for input in engine.asked]
    assert kinds.index(PauseScope) < kinds.index(ExplainHost)


async def test_a_full_disk_is_told_to_who_asked(store: SqliteStore) -> None:
    """An operator whose command could not be made durable hears so, and it did not happen."""
    shaky = ShakyStore(store)
    async with running_service(shaky) as service:
        await _publish(service)
        shaky.is_full = True
        with pytest.raises(WriteFailed, match="database or disk is full"):
            await service.command(PauseScope(ChannelScope("stable"), "ada", "why"))
        shaky.is_full = False

        assert await service.next_dispatch("web-01", 0) is not None


async def test_a_write_that_outlasts_its_deadline_ends_the_service(store: SqliteStore) -> None:
    """By the deadline that the service was given: who asked hears that the outcome is not known."""
    held_up = HeldUpStore(store)
    with pytest.raises(ExceptionGroup) as ended:
        await _live_past_its_deadline(held_up)
    assert ended.group_contains(WriteOverdue)


async def _live_past_its_deadline(held_up: HeldUpStore) -> None:
    async with (
        threaded(held_up) as behind,
        running(behind, FakeClock(START), write_seconds_max=SHORT_SECONDS) as service,
    ):
        with pytest.raises(WriteFailed, match=r"did not end within 0\.01 s"):
            await _publish(service)
        held_up.let_go()
        await anyio.sleep_forever()


async def test_a_stop_ends_though_a_commit_hangs(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before the limit for a commit: the one that hangs is not confirmed, and the stop says so."""
    monkeypatch.setattr(service_module, "STOP_WRITE_SECONDS_MAX", SHORT_SECONDS)
    held_up = HeldUpStore(store)
    with pytest.raises(ExceptionGroup) as ended:
        await _stop_while_a_commit_hangs(held_up)
    assert ended.group_contains(WriteOverdue)


async def _stop_while_a_commit_hangs(held_up: HeldUpStore) -> None:
    async with threaded(held_up) as behind, anyio.create_task_group() as tasks:
        try:
            async with running(behind, FakeClock(START)) as service:
                tasks.start_soon(_fail_to_publish, service)
                assert await held_up.begun()
        finally:
            held_up.let_go()


async def _fail_to_publish(service: ControlPlaneService) -> None:
    with pytest.raises(WriteFailed, match=r"did not end within 0\.01 s"):
        await _publish(service)


async def test_a_message_about_another_host_than_the_authenticated_one_is_refused(
    store: SqliteStore,
) -> None:
    """Whatever the transport: a name in a message proves nothing, and nothing is taken."""
    async with running_service(store) as service:
        rollout_id = await _publish(service)
        ack = DispatchAck("release-0", START, seq=1)
        with pytest.raises(AnotherHost, match="expected a message of 'web-02'") as refused:
            await service.take_events("web-02", (AgentEventEnvelope("web-01", rollout_id, ack),))
        with pytest.raises(AnotherHost):
            await service.compare("web-02", Heartbeat("web-01", "any", FrozenMap()))
        assert (refused.value.authenticated, refused.value.named) == ("web-02", "web-01")
        records = (await service.host_records()).records
        assert {record.last_event_seq for record in records} == {0}


async def test_operators_and_hosts_are_answered(store: SqliteStore) -> None:
    """Each call comes back with what the engine says to it."""
    async with running_service(store) as service:
        rollout_id = await _publish(service)
        await service.note_rejected("rollouts/stable@r9.json", "bad signature")
        explained = await service.explain("web-02")
        reply = await service.compare(
            "web-01", Heartbeat("web-01", "release-0", FrozenMap({rollout_id: 1}))
        )
        refusal = await service.command(PauseScope(ChannelScope("nowhere"), "ada", "typo"))

        assert await service.manifest(rollout_id) is not None
        assert await service.manifest("stable@r9") is None
        assert list(explained.blocks) == [rollout_id]
        assert [asked.first_missing_seq for asked in reply.replay_from] == [1]
        assert (
            refusal.refusal
            == "expected a channel, a rollout or a host (host:NAME), found 'nowhere'"
        )


# The end.


async def test_closing_releases_the_polls_that_wait(store: SqliteStore) -> None:
    """Who waits for a dispatch when the control plane closes is told that there is none, and nothing hangs."""
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks, running_service(store) as service:
            answers = Answers(service)
            tasks.start_soon(answers.poll, "web-01")
            await anyio.wait_all_tasks_blocked()

    assert answers.of == {"web-01": None}


async def test_a_poll_that_comes_while_it_closes_is_released_too(store: SqliteStore) -> None:
    """Who polls when the end has begun does not wait for what will not come."""
    held_up = HeldUpStore(store)
    async with running_mutator(held_up, ControlPlaneEngine(load_state(store))) as (service, tasks):
        answers = Answers(service)
        tasks.start_soon(_publish, service)
        assert await held_up.begun()
        tasks.start_soon(service.close)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(answers.poll, "web-02")
        await anyio.wait_all_tasks_blocked()
        held_up.let_go()

    assert answers.of == {"web-02": None}


async def test_closing_writes_behind_what_was_left(store: SqliteStore) -> None:
    """After an orderly end the cache of host records is complete."""
    async with running_service(store) as service:
        await _publish(service)

    snapshot = store.load().in_memory()
    assert (snapshot.tail, len(snapshot.hosts)) == ((), 2)


async def test_closing_in_the_middle_of_a_flush_writes_behind_the_rest(
    store: SqliteStore,
) -> None:
    """An end that finds a large fleet half flushed leaves a complete cache."""
    clock = FakeClock(START)
    hosts = tuple(f"web-{number:04}" for number in range(1200))
    async with running_service(store, clock) as service:
        rollout_id = await _publish(service, layout=Layout(waves=(hosts,), max_in_flight=1))
        await anyio.wait_all_tasks_blocked()
        clock.advance(5)
        await anyio.wait_all_tasks_blocked()
        flushed = len(store.load().hosts)
        await _tell(service, hosts[0], rollout_id, DispatchAck("release-0", START, seq=1))

    snapshot = store.load().in_memory()
    assert (flushed, len(snapshot.hosts), snapshot.tail) == (FLUSH_PORTION, 1200, ())


async def test_closing_ends_though_hosts_go_on_reporting(store: SqliteStore) -> None:
    """New facts during the last flush do not keep the control plane from ending."""
    engine = BusyEngine(load_state(store))
    async with running_mutator(store, engine) as (service, _):
        await service.close()


async def test_closing_refuses_later_calls_by_name(store: SqliteStore) -> None:
    """Who asks after the end is told that it is over."""
    async with running_service(store) as service:
        pass

    with pytest.raises(MutatorClosed):
        await service.next_dispatch("web-01", LONG_SECONDS)


async def test_closing_with_a_full_disk_comes_to_an_end(store: SqliteStore) -> None:
    """A cache that cannot be written at the end is no reason not to end."""
    shaky = ShakyStore(store)
    async with running_service(shaky) as service:
        await _publish(service)
        shaky.is_full = True

    assert shaky.refused > 0


async def test_an_error_of_who_runs_it_ends_the_service_in_order(store: SqliteStore) -> None:
    """When the code around the service fails, the service is closed as ever and the error goes on."""
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with running_service(store) as service:
            await _publish(service)
            raise ZeroDivisionError

    assert not tuple(store.load().tail)


async def test_cancelling_who_runs_it_ends_the_service_in_order(store: SqliteStore) -> None:
    """A control plane that is told to stop writes behind what was left before it does."""
    with anyio.CancelScope() as scope:
        async with running_service(store) as service:
            await _publish(service)
            scope.cancel()
            await anyio.sleep_forever()

    assert not tuple(store.load().tail)
