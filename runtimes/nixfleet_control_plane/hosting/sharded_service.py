"""The service of a control plane with several shards: one call of each kind, over all of them.

What is about a rollout or a channel goes to its shard; what is about the fleet is put together.

It has every call of the service of one shard, so that routes, transports, judges and gauges know no difference. What
hosts call is in `host_calls`, which operators' commands go where in `routing`.
Source: docs/spec/shards.md, Hosting.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from heapq import merge
from itertools import chain, islice
from operator import attrgetter

import anyio
from attrs import evolve

from nixfleet_control_plane.engine.guard_verdicts import AskedCheck, GuardedRollout
from nixfleet_control_plane.engine.state import LoadedManifest
from nixfleet_control_plane.engine.warrants import HostRecall, RelayedWarrant
from nixfleet_control_plane.hosting import host_calls
from nixfleet_control_plane.hosting.putting_together import added, are_same, released_at
from nixfleet_control_plane.hosting.routing import routed
from nixfleet_control_plane.hosting.shard_log import ShardLog
from nixfleet_control_plane.hosting.telling import Telling
from nixfleet_control_plane.messages.inputs import (
    CommandOutcome,
    EnrollHost,
    Explanation,
    HostList,
    ListsOutcome,
    ListsUpdated,
    ManifestsOutcome,
    ManifestsUpdated,
    OperatorCommand,
    ReportVerdict,
    Signed,
    Totals,
    WaveTotals,
)
from nixfleet_control_plane.messages.key_ring import EnrolledHost, EnrollmentObjection, KeyRing
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.overview.fleet_lists import Item
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_control_plane.store.queries import Quarantined, Waiting
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.enrollment import BootstrapNonce, EnrollRequest
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.steering.approval import SignedApproval
from nixfleet_proto.trust import Operator, TrustRoot
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_runtime.http.fleet_pages import ListedQuarantine, ListedRefusal
from nixfleet_runtime.http.host_pages import HostRecordPage
from nixfleet_runtime.http.listings import ChannelInForce, ListedRow, ReleaseStanding
from nixfleet_runtime.http.overview import Need, Overview
from nixfleet_runtime.http.shards import ListedShard
from nixfleet_runtime.transport import EventsOutcome, Heartbeat, HeartbeatReply
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.holds.hold import Hold
from nixfleet_state_machine.planner.host_status import HostInRollout
from nixfleet_state_machine.planner.pace.status import BudgetStatus, Shortage
from nixfleet_state_machine.planner.rollout_status import WaveStatus
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import Standing
from nixfleet_state_machine.shards.shard_map import MAIN, ShardMap


class ShardedService(ControlPlaneService):
    """One service over all shards. Each call of the base is overridden: nothing of a single engine is left.

    `feed` and `version` are those of `MAIN` and of all logs; every log by itself is in `logs`.
    """

    def __init__(self, shards: ShardMap, logs: Mapping[str, ShardLog], telling: Telling) -> None:
        """logs: of each shard, by name, while their services handle nothing."""
        self.map = shards
        self.logs = logs
        self._telling = telling
        self._main = logs[MAIN].service
        self._all = tuple(logs[name].service for name in shards.all_names)
        self._rings: tuple[KeyRing, ...] = ()
        self._whole_ring = KeyRing()
        self.feed = self._main.feed
        self.notices = self._main.notices
        left_out = [each for service in self._all for each in service.notices.left_out]
        self.notices.left_out = tuple(left_out)
        for service in self._all:
            service.notices = self.notices

    def service_of(self, rollout_id: str) -> ControlPlaneService:
        """Return the service of the shard that has a rollout; of `MAIN`, if it is not the id of one."""
        try:
            return self._of_channel(RolloutId(rollout_id).channel)
        except InvalidRolloutId:
            return self._main

    def _of_channel(self, channel: str) -> ControlPlaneService:
        return self.logs[self.map.shard_of(channel)].service

    # Of the whole process.

    @contextmanager
    def following(self, follow: Callable[[Sequence[Write]], None]) -> Iterator[None]:
        """Have `follow` called with the writes of each commit of any shard while the context is open."""
        with ExitStack() as held:
            for service in self._all:
                held.enter_context(service.following(follow))
            yield

    def ring(self) -> KeyRing:
        """Return the keys in force: those of `MAIN`, and the keys that the newest fleet of any shard declares."""
        rings = tuple(service.ring() for service in self._all)
        if not are_same(rings, self._rings):
            newest = max(self._all, key=released_at)
            self._whole_ring = evolve(rings[0], fleet_keys=newest.ring().fleet_keys)
            self._rings = rings
        return self._whole_ring

    def now(self) -> datetime:
        """Return the time of the fleet's clock."""
        return self._main.now()

    @property
    def waiting_polls(self) -> int:
        """How many polls wait for a dispatch now; one host's counts once for each shard."""
        return sum(service.waiting_polls for service in self._all)

    @property
    def is_closing(self) -> bool:
        """Whether new requests are refused."""
        return self._main.is_closing

    @property
    def queue_length(self) -> int:
        """The number of inputs that wait for the engines."""
        return sum(service.queue_length for service in self._all)

    @property
    def version(self) -> str:
        """What changes with every row of any log."""
        return "-".join(service.version for service in self._all)

    def use_trust(self, trust: TrustRoot) -> None:
        """Use another trust root from now on, in every shard."""
        for service in self._all:
            service.use_trust(trust)

    def begin_closing(self) -> None:
        """Release waiting polls, and refuse new requests from now on, in every shard."""
        for service in self._all:
            service.begin_closing()

    @property
    def epoch(self) -> int:
        """That of the store of `MAIN`."""
        return self._main.epoch

    async def write_records(self) -> None:
        """Write the host records of every shard that are unsaved now. Raises: as one shard."""
        for service in self._all:
            await service.write_records()

    async def close(self, *, writes_records: bool = True) -> None:
        """Close every shard. It is done by what runs each, too."""
        for service in self._all:
            await service.close(writes_records=writes_records)

    def shards(self) -> tuple[ListedShard, ...]:
        """Return how each shard stands, `MAIN` first."""
        return tuple(self._listed(log) for log in self.logs.values())

    def other_logs(self) -> Mapping[str, tuple[ControlPlaneService, Queries]]:
        """Return the service and the read port of each shard beside `MAIN`, by name."""
        return {name: (log.service, log.queries) for name, log in self.logs.items() if name != MAIN}

    def _listed(self, log: ShardLog) -> ListedShard:
        listed = log.service.as_shard(log.name)
        named = {channel for channel, name in self.map.channels.items() if name == log.name}
        return evolve(listed, channels=tuple(sorted(named.union(listed.channels))))

    # Numbers over all shards.

    def totals(self) -> Totals:
        """Return current totals: of the log and the enrollments, those of `MAIN`."""
        found = [service.totals() for service in self._all]
        return evolve(
            found[0],
            manifests=sum(each.manifests for each in found),
            rollouts=added(each.rollouts for each in found),
            drifted=sum(each.drifted for each in found),
        )

    def hosts_by_state(self) -> Mapping[HostState, int]:
        """As of one shard."""
        return added(service.hosts_by_state() for service in self._all)

    def hosts_by_standing(self) -> Mapping[Standing, int]:
        """As of one shard."""
        return added(service.hosts_by_standing() for service in self._all)

    def overdue_by_stage(self) -> Mapping[Stage, int]:
        """As of one shard."""
        return added(service.overdue_by_stage() for service in self._all)

    def waiting_by_gate(self) -> Mapping[Gate, int]:
        """As of one shard."""
        return added(service.waiting_by_gate() for service in self._all)

    def wave_totals(self) -> WaveTotals:
        """As of one shard."""
        found = [service.wave_totals() for service in self._all]
        return WaveTotals(sum(it.absent for it in found), sum(it.tolerated for it in found))

    def budget_shortages(self) -> Mapping[Shortage, int]:
        """As of one shard: no budget is shared."""
        return added(service.budget_shortages() for service in self._all)

    def guards_open(self) -> int:
        """As of one shard."""
        return sum(service.guards_open() for service in self._all)

    def quarantine_count(self) -> int:
        """As of one shard."""
        return sum(service.quarantine_count() for service in self._all)

    def oldest_waits(self) -> Mapping[Gate, datetime]:
        """As of one shard."""
        oldest: dict[Gate, datetime] = {}
        for service in self._all:
            for gate, since in service.oldest_waits().items():
                oldest[gate] = min(since, oldest.get(gate, since))
        return oldest

    def next_edge(self) -> datetime | None:
        """As of one shard: the first."""
        edges = (service.next_edge() for service in self._all)
        return min((at for at in edges if at is not None), default=None)

    # Lists over all shards.

    def warrants(self) -> tuple[RelayedWarrant, ...]:
        """As of one shard; those of `MAIN` first."""
        return tuple(chain.from_iterable(service.warrants() for service in self._all))

    def recalls_of(self, hostname: str) -> tuple[HostRecall, ...]:
        """As of one shard."""
        return tuple(chain.from_iterable(service.recalls_of(hostname) for service in self._all))

    def holds(self) -> tuple[Hold, ...]:
        """As of one shard. One that is on in several is shown once."""
        found = chain.from_iterable(service.holds() for service in self._all)
        first = {(*hold.key, hold.reason, hold.until): hold for hold in found}
        return tuple(sorted(first.values(), key=lambda hold: (str(hold.scope), hold.source.order)))

    def asked_checks(self) -> tuple[AskedCheck, ...]:
        """As of one shard."""
        return tuple(chain.from_iterable(service.asked_checks() for service in self._all))

    def in_force(self) -> tuple[ChannelInForce, ...]:
        """As of one shard: of each channel by the newest fleet that its shard has."""
        found = chain.from_iterable(service.in_force() for service in self._all)
        return tuple(sorted(found, key=attrgetter("channel")))

    def shown_rollouts(self) -> Collection[RolloutId]:
        """As of one shard."""
        return {each for service in self._all for each in service.shown_rollouts()}

    def quarantines(self, stored: Iterable[Quarantined]) -> Iterator[Item[ListedQuarantine]]:
        """As of one shard."""
        rows = tuple(stored)
        return chain.from_iterable(service.quarantines(rows) for service in self._all)

    def refusals(self) -> Iterator[Item[ListedRefusal]]:
        """As of one shard. What hosts and releases refuse is known to the process, and comes once."""
        found = chain.from_iterable(service.refusals() for service in self._all)
        return iter({item[0]: item for item in found}.values())

    def awaited_tokens(self) -> Sequence[BootstrapNonce]:
        """Return the listed tokens that are not used and have not expired, by `MAIN`, which takes them."""
        return self._main.awaited_tokens()

    def rollouts_with(self, hostname: str) -> tuple[RolloutId, ...]:
        """As of one shard."""
        found = chain.from_iterable(service.rollouts_with(hostname) for service in self._all)
        return tuple(sorted(found))

    def needs(self) -> Iterator[Need]:
        """As of one shard. What is about the process comes once."""
        found = chain.from_iterable(service.needs() for service in self._all)
        return iter(dict.fromkeys(found))

    def live_budgets(self) -> tuple[BudgetStatus, ...]:
        """As of one shard."""
        return tuple(chain.from_iterable(service.live_budgets() for service in self._all))

    def standing(self) -> ReleaseStanding:
        """Return what is in force and what is refused."""
        return evolve(self._main.standing(), channels=self.in_force())

    def overview(self, you: Operator, silent: int, rollout_id: RolloutId | None = None) -> Overview:
        """Return how the fleet stands: the rollouts of all shards, or one. The head is that of `MAIN`."""
        found = [service.overview(you, silent, rollout_id) for service in self._all]
        counts = evolve(found[0].fleet, declared=len(self.ring().fleet_keys))
        needs = dict.fromkeys(chain.from_iterable(each.needs_you for each in found))
        rollouts = chain.from_iterable(each.rollouts for each in found)
        return evolve(
            found[0],
            fleet=counts,
            needs_you=tuple(needs),
            rollouts=tuple(sorted(rollouts, key=lambda it: (it.channel, it.rollout_id))),
        )

    async def host_records(
        self, after: tuple[str, str] | None = None, limit: int = 1000
    ) -> HostList:
        """As of one shard."""
        pages = [await service.host_records(after, limit) for service in self._all]
        rows = [zip(page.records, page.standings, page.drifts, strict=True) for page in pages]
        ordered = merge(*rows, key=lambda row: (row[0].rollout_id, row[0].hostname))
        kept = tuple(islice(ordered, limit))
        return HostList(
            tuple(row[0] for row in kept),
            tuple(row[1] for row in kept),
            tuple(row[2] for row in kept),
        )

    async def explain(self, hostname: str) -> Explanation:
        """Return where the host stands in every shard that knows it; its channel by the shard that has that."""
        return host_calls.merged_explanations(
            self.map, {log.name: await log.service.explain(hostname) for log in self.logs.values()}
        )

    # What is about one rollout.

    def waves(self, rollout_id: RolloutId) -> tuple[WaveStatus, ...]:
        """As of one shard."""
        return self.service_of(rollout_id).waves(rollout_id)

    def begins_at(self, rollout_id: RolloutId) -> datetime | None:
        """As of one shard."""
        return self.service_of(rollout_id).begins_at(rollout_id)

    def budgets(self, rollout_id: RolloutId) -> tuple[BudgetStatus, ...]:
        """As of one shard."""
        return self.service_of(rollout_id).budgets(rollout_id)

    def until_of(self, rollout_id: RolloutId, hostname: str, gate: Gate) -> datetime | None:
        """As of one shard."""
        return self.service_of(rollout_id).until_of(rollout_id, hostname, gate)

    def guarded(self, rollout_id: RolloutId) -> GuardedRollout | None:
        """As of one shard."""
        return self.service_of(rollout_id).guarded(rollout_id)

    def host_record(self, rollout_id: RolloutId, hostname: str) -> HostRolloutState | None:
        """As of one shard."""
        return self.service_of(rollout_id).host_record(rollout_id, hostname)

    def manifest_in_use(self, rollout_id: RolloutId) -> LoadedManifest | None:
        """As of one shard."""
        return self.service_of(rollout_id).manifest_in_use(rollout_id)

    def map_columns(self, rollout_id: RolloutId, hosts: Sequence[str]) -> tuple[str, str]:
        """As of one shard."""
        return self.service_of(rollout_id).map_columns(rollout_id, hosts)

    def host_commands(self, rollout_id: RolloutId, hostname: str) -> tuple[str, ...]:
        """As of one shard."""
        return self.service_of(rollout_id).host_commands(rollout_id, hostname)

    def host_record_page(
        self,
        hostname: str,
        status: HostInRollout,
        waiting: Sequence[Waiting],
        facts: Sequence[AgentEvent],
        rows: tuple[ListedRow, ...],
    ) -> HostRecordPage | None:
        """As of one shard."""
        service = self.service_of(status.rollout_id)
        return service.host_record_page(hostname, status, waiting, facts, rows)

    # Hosts' requests.

    async def take_events(
        self,
        hostname: str,
        envelopes: tuple[AgentEventEnvelope, ...],
        signed: Signed | None = None,
    ) -> EventsOutcome:
        """As of one shard. Events of several shards are taken in order, and stop at the first that is stopped."""
        accepted = 0
        for service, part in host_calls.in_runs(envelopes, self.service_of):
            outcome = await service.take_events(hostname, part, signed)
            accepted += outcome.accepted
            if outcome.stopped_by is not None or outcome.accepted < len(part):
                return EventsOutcome(accepted, outcome.stopped_by)
        return EventsOutcome(accepted)

    async def next_dispatch(
        self,
        hostname: str,
        wait_seconds: float,
        until_gone: Callable[[], Awaitable[None]] = anyio.sleep_forever,
    ) -> Dispatch | None:
        """As of one shard: of several dispatches, that of the manifest that was signed last."""
        if self.ring().is_revoked(hostname):
            return None
        return await host_calls.next_dispatch(self._all, hostname, wait_seconds, until_gone)

    async def compare(self, hostname: str, heartbeat: Heartbeat) -> HeartbeatReply:
        """As of one shard: each shard that knows the host compares its own rollouts."""
        return await host_calls.compare(self.map, self.logs, hostname, heartbeat)

    async def manifest(self, rollout_id: str, hostname: str | None = None) -> SignedArtefact | None:
        """As of one shard."""
        return await self.service_of(rollout_id).manifest(rollout_id, hostname)

    def token_objection(self, request: EnrollRequest) -> EnrollmentObjection | None:
        """As of one shard: `MAIN` has the tokens."""
        return self._main.token_objection(request)

    async def enroll(self, request: EnrollHost) -> EnrolledHost | EnrollmentObjection:
        """Enroll at `MAIN`; the other shards know of it before the answer."""
        answer = await self._main.enroll(request)
        if isinstance(answer, EnrolledHost):
            await self._telling.tell_enrolled((answer,))
        return answer

    # Requests of CI and operators.

    async def publish(self, update: ManifestsUpdated) -> ManifestsOutcome:
        """Offer a release to every shard; those that wait for another shard are offered it again after that one."""
        self._telling.note_edges(update.fleet.value)
        whole = evolve(update, channels=update.released_channels)
        taken: list[RolloutId] = []
        refused: list[tuple[str, str]] = []
        left = dict.fromkeys(self._all, whole)
        waiting: dict[RolloutId, str] = {}
        while left:
            await self._telling.tell_all()
            offered, left, before, waiting = left, {}, len(taken), {}
            for service, part in offered.items():
                outcome = await service.publish(part)
                taken += outcome.taken
                refused += outcome.refused
                waits = dict(outcome.waiting)
                if waits:
                    waiting |= waits
                    rest = tuple(it for it in part.manifests if it.value.rollout_id in waits)
                    left[service] = evolve(part, manifests=rest)
            if len(taken) == before:
                break
        return ManifestsOutcome(tuple(taken), tuple(refused), tuple(waiting.items()))

    async def publish_lists(self, update: ListsUpdated) -> ListsOutcome:
        """Offer lists to every shard; return what the last of them that refused one said, or else `MAIN`."""
        found = [await service.publish_lists(update) for service in self._all]
        return next((each for each in reversed(found) if each.refused), found[0])

    async def note_rejected(self, name: str, reason: str) -> None:
        """Log that an artefact failed verification, in `MAIN`."""
        await self._main.note_rejected(name, reason)

    async def command(self, command: OperatorCommand) -> CommandOutcome:
        """Carry out a command: in the shard of its rollout or channel; for a host or the fleet, in every shard.

        In every shard, it is refused only if each refuses it.
        """
        target = routed(command)
        if target is not None:
            return await self._of_channel(target).command(command)
        found = [await service.command(command) for service in self._all]
        return next((each for each in found if each.refusal is None), found[0])

    async def approve(self, signed: SignedApproval) -> CommandOutcome:
        """As of one shard."""
        return await self.service_of(signed.approval.rollout_id).approve(signed)

    async def report_verdict(self, reported: ReportVerdict) -> None:
        """As of one shard."""
        await self.service_of(reported.question.rollout_id).report_verdict(reported)
