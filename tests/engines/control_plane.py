"""A control plane without a machine: the real engine and store, told what happened by a script.

Time is a number that a test adds to. Everything goes the way it goes in the service, only without tasks.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.history.rebuild import ViewsReport, check_chain, check_views
from nixfleet_control_plane.messages.inputs import (
    Action,
    ClearRollout,
    CommandOutcome,
    DispatchAnswer,
    DispatchPoll,
    Done,
    EnrollOutcome,
    Flushed,
    FlushRecords,
    HostEvents,
    Input,
    ListsOutcome,
    ListsUpdated,
    ManifestsOutcome,
    ManifestsUpdated,
    OperatorCommand,
    PauseScope,
    PlanTick,
    Reply,
    ResumeScope,
)
from nixfleet_control_plane.messages.key_ring import EnrolledHost, EnrollmentObjection
from nixfleet_control_plane.messages.log_entry import Entry, LoggedLine, LogRow
from nixfleet_control_plane.store.queries import log_entries, open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore, read_log
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.enrollment import BootstrapToken, Revocation
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_runtime.transport import EventsOutcome, Heartbeat, HeartbeatReply
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.holds.scope import parse_scope
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_state_machine.shards.shard_map import ONLY, ShardPlace
from tests.engines.releases import START, Layout, Publisher, rollout_id_of

ReplyT = TypeVar("ReplyT", bound=Reply)
EntryT = TypeVar("EntryT", bound=Entry)


class ScriptedControlPlane:
    """An engine, its store, and what CI, hosts and operators may say to it."""

    def __init__(
        self,
        directory: Path,
        layout: Layout | None = None,
        ci: Publisher | None = None,
        place: ShardPlace = ONLY,
    ) -> None:
        self.place = place
        self.layout = layout or Layout()
        self.now: datetime = START
        self.ci = ci or Publisher()
        self.actions: list[Action] = []
        self.released: dict[RolloutId, ManifestsUpdated] = {}
        self._directory = directory
        self.start_control_plane()

    @property
    def database(self) -> Path:
        return self._directory / "control-plane.sqlite"

    def open_store(self) -> SqliteStore:
        """Return the store on the database."""
        return SqliteStore(self.database)

    def start_control_plane(self) -> None:
        """Start for the first time."""
        self.store = self.open_store()
        self.state: State = load_state(self.store)
        self.engine = ControlPlaneEngine(self.state, self.ci.trust, SystemZones(), self.place)

    def restart_control_plane(self) -> None:
        """Crash, and start again: what is not in the database is gone."""
        self.store.close()
        self.start_control_plane()

    def destroy_control_plane(self) -> None:
        """Lose the database, and start on an empty one."""
        self.store.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.database}{suffix}").unlink(missing_ok=True)
        self.start_control_plane()

    def close(self) -> None:
        """Let go of the database."""
        self.store.close()

    def wait(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Let time pass. Nobody is told."""
        self.now += timedelta(minutes=minutes, seconds=seconds)

    def ask(self, *inputs: Input) -> tuple[Reply, ...]:
        """Put `inputs` to the engine as one batch, and return the replies once they are durable."""
        try:
            commits = [self.engine.handle(input, self.now) for input in inputs]
            writes = [write for commit in commits for write in commit.writes]
            if writes:
                self.store.commit(writes)
        except BaseException:
            self.engine.roll_back()
            raise
        self.engine.settle()
        self.actions += [action for commit in commits for action in commit.actions]
        return tuple(commit.reply for commit in commits)

    def ask_for(self, expected: type[ReplyT], input: Input) -> ReplyT:
        """As `ask`, for one input whose reply is of a type."""
        (reply,) = self.ask(input)
        assert isinstance(reply, expected), reply
        return reply

    # What CI, operators and time say.

    def publish(self, channel_ref: str, layout: Layout | None = None) -> RolloutId:
        """Publish a release in which every host gets `{channel_ref}-{host}`; it must be taken."""
        release = self.ci.release(layout or self.layout, channel_ref, self.now)
        outcome = self.offer(release)
        assert outcome.refused == (), outcome
        return rollout_id_of(release)

    def offer(self, release: ManifestsUpdated) -> ManifestsOutcome:
        """Publish `release`, come what may."""
        outcome = self.ask_for(ManifestsOutcome, release)
        for manifest in release.manifests:
            if manifest.value.rollout_id in outcome.taken:
                self.released[manifest.value.rollout_id] = release
        return outcome

    def publish_lists(
        self, *, revoked: tuple[Revocation, ...] = (), tokens: tuple[BootstrapToken, ...] = ()
    ) -> ListsOutcome:
        """Publish both lists: who is revoked, and whose tokens are good."""
        update = ListsUpdated(
            self.ci.revocations(self.now, *revoked), self.ci.nonces(self.now, *tokens)
        )
        return self.ask_for(ListsOutcome, update)

    def enroll(self, token: BootstrapToken, key: SigningKey) -> EnrolledHost | EnrollmentObjection:
        """Let a host that has `key` come with `token`."""
        return self.ask_for(EnrollOutcome, self.ci.enrollment(token, key)).answer

    def command(self, command: OperatorCommand) -> CommandOutcome:
        return self.ask_for(CommandOutcome, command)

    def pause(self, scope: str) -> None:
        assert self.command(PauseScope(parse_scope(scope), "ada", "smells odd")).refusal is None

    def resume(self, scope: str) -> None:
        assert self.command(ResumeScope(parse_scope(scope), "ada", "smells fine")).refusal is None

    def clear(self, rollout_id: RolloutId, *excused_hosts: str) -> None:
        command = ClearRollout(rollout_id, "ada", "seen to it", frozenset(excused_hosts))
        assert self.command(command).refusal is None

    def tick(self) -> None:
        self.ask_for(Done, PlanTick())

    def flush(self, limit: int = 1_000) -> int:
        """Write host records behind; return how many are left."""
        return self.ask_for(Flushed, FlushRecords(limit)).left

    # What hosts say.

    def hear(self, hostname: str, rollout_id: str, *facts: AgentEvent) -> EventsOutcome:
        envelopes = tuple(AgentEventEnvelope(hostname, rollout_id, fact) for fact in facts)
        return self.ask_for(EventsOutcome, HostEvents(hostname, envelopes))

    def dispatch_of(self, hostname: str) -> Dispatch | None:
        return self.ask_for(DispatchAnswer, DispatchPoll(hostname)).dispatch

    def heartbeat(
        self, hostname: str, last_seqs: dict[str, int], running: str = "any"
    ) -> HeartbeatReply:
        return self.ask_for(HeartbeatReply, Heartbeat(hostname, running, FrozenMap(last_seqs)))

    # What came of it.

    def rollout(self, rollout_id: RolloutId) -> RolloutRecord:
        return self.state.view.rollouts[rollout_id]

    def mirrored(self, rollout_id: RolloutId, hostname: str) -> HostRolloutState:
        record = self.state.view.host(rollout_id, hostname)
        assert record is not None, (rollout_id, hostname)
        return record

    def states(self, rollout_id: RolloutId) -> dict[str, HostState]:
        return {record.hostname: record.state for record in self.state.view.hosts_of(rollout_id)}

    def queued(self) -> list[tuple[str, str]]:
        """Return who has a dispatch waiting, and of which rollout."""
        return [
            (hostname, dispatch.rollout_id)
            for hostname, waiting in sorted(self.state.dispatches.items())
            for dispatch in waiting
        ]

    def log(self, after_seq: int = 0) -> tuple[LoggedLine, ...]:
        """Return the log's lines: one for each fact, and for each other row."""
        connection = open_for_reading(self.database)
        try:
            return log_entries(connection, after_seq=after_seq)
        finally:
            connection.close()

    def rows(self) -> tuple[LogRow, ...]:
        """Return the log's rows as they are stored."""
        connection = open_for_reading(self.database)
        try:
            return tuple(read_log(connection))
        finally:
            connection.close()

    def logged(self, kind: type[EntryT], after_seq: int = 0) -> list[EntryT]:
        """Return the log's entries of one kind."""
        entries = (logged.entry for logged in self.log(after_seq))
        return [entry for entry in entries if isinstance(entry, kind)]

    def check_store(self) -> ViewsReport:
        """Return how the stored views compare with the log, after checking the chain."""
        connection = open_for_reading(self.database)
        try:
            chain = check_chain(connection)
            assert chain.problem is None, chain
            return check_views(connection)
        finally:
            connection.close()
