"""The routes of operators: lists, explanations and commands.

Lists are read page by page from committed rows, through the read port. Commands are handled ahead of the queue
and logged with the operator's name.
Source: docs/spec/wire.md, Operator calls.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

from attrs import evolve, frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.history.line_types import AsksApproval
from nixfleet_control_plane.http.answers import bytes_answer, malformed, no_content, refusal
from nixfleet_control_plane.http.authentication import Authenticator
from nixfleet_control_plane.http.calls import Answer, Call, Caller, Endpoint
from nixfleet_control_plane.http.contacts import Contact, Contacts, heard
from nixfleet_control_plane.http.listed_lines import asks_approval, listed_lines
from nixfleet_control_plane.http.query import AFTER, AFTER_ROW, LIMIT, Parameter, place_text
from nixfleet_control_plane.http.routes.approvals import require_own
from nixfleet_control_plane.http.routes.warrants import listed_warrant
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ClearRollout,
    ExcuseHosts,
    HostList,
    OperatorCommand,
    PauseScope,
    PlaceHold,
    RelayWarrant,
    ReleaseHold,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
)
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.overview.guards import listed_guards
from nixfleet_control_plane.overview.holds import listed_hold
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_control_plane.store.queries import Waiting
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.codec.problem import DecodeProblem
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.trust import OperatorRole
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.approvals import APPROVAL_TAKEN, SIGNED_APPROVAL, ApprovalTaken
from nixfleet_runtime.http.commands import (
    CLEARANCE,
    HOLD,
    HOSTS,
    REASON,
    RELEASE,
    RETIREMENT,
    RETRY,
    WARRANT,
)
from nixfleet_runtime.http.listings import (
    DEFERRAL_PAGE,
    HOLD_LIST,
    HOST_PAGE,
    LOG_PAGE,
    PAGE_LENGTH_MAX,
    REFUSED_ENROLLMENTS,
    RELEASE_STANDING,
    ROLLOUT_PAGE,
    WARRANT_LIST,
    DeferralPage,
    HoldList,
    HostPage,
    ListedDeferral,
    ListedHost,
    ListedRollout,
    ListedRow,
    LogPage,
    RefusedEnrollments,
    RolloutPage,
    WarrantList,
)
from nixfleet_runtime.http.shards import SHARD_LIST, ShardList
from nixfleet_runtime.transport import ActingRefusal
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.holds.scope import (
    ChannelScope,
    HoldScope,
    HostScope,
    RolloutScope,
    parse_scope,
)
from nixfleet_state_machine.planner.rollout_status import standing_counts
from nixfleet_state_machine.rollout.state import Drift, RolloutRecord, Standing

T = TypeVar("T")


@frozen
class OperatorRoutes:
    """The calls of an operator. queries: what the store has committed."""

    service: ControlPlaneService
    authenticator: Authenticator
    queries: Queries
    contacts: Contacts

    # Lists.

    async def rollouts(self, request: Request) -> Response:
        """Every rollout, oldest first."""
        await self.authenticator.operator(request, OperatorRole.READ)
        after_seq, limit = AFTER_ROW.of(request), _limit(request)
        page = _rollouts(await self.queries.rollouts(after_seq=after_seq, limit=limit + 1), limit)
        # The waves and budgets of those that are not pruned, and until when they are held, from memory.
        service = self.service
        rollouts = (
            evolve(
                each,
                waves=service.waves(each.rollout_id),
                begins_at=service.begins_at(each.rollout_id),
                budgets=service.budgets(each.rollout_id),
                guards=listed_guards(service.guarded(each.rollout_id)),
            )
            for each in page.rollouts
        )
        return _shown(ROLLOUT_PAGE, evolve(page, rollouts=tuple(rollouts)))

    async def rollout_events(self, request: Request) -> Response:
        """The log of one rollout, oldest first."""
        await self.authenticator.operator(request, OperatorRole.READ)
        rollout_id, after_seq, limit = _rollout_id(request), AFTER_ROW.of(request), _limit(request)
        rows = await self.queries.log_rows(rollout_id, after_seq=after_seq, limit=limit + 1)
        return _shown(LOG_PAGE, _log_page(rows, limit, asks_approval(self.service)))

    async def hosts(self, request: Request) -> Response:
        """The record of every host in rollouts that are not pruned, ordered by rollout and name."""
        await self.authenticator.operator(request, OperatorRole.READ)
        after, limit = AFTER.of(request), _limit(request)
        # From memory, because the table of host records lags behind.
        found = await self.service.host_records(after, limit + 1)
        page = _host_page(found, limit, self.service.notices.refusals_of, self.contacts)
        return _shown(HOST_PAGE, page)

    async def deferrals(self, request: Request) -> Response:
        """Every held host with its gate, reason and start time, ordered by rollout and host."""
        await self.authenticator.operator(request, OperatorRole.READ)
        after, limit = AFTER.of(request), _limit(request)
        rows = await self.queries.deferrals(after=after, limit=limit + 1)
        page = _deferral_page(rows, limit)
        # Until when, from memory: the ends of holds and of slots are not stored with the reason.
        until_of = self.service.until_of
        deferrals = (
            evolve(it, until=until_of(it.rollout_id, it.hostname, it.gate)) for it in page.deferrals
        )
        return _shown(DEFERRAL_PAGE, evolve(page, deferrals=tuple(deferrals)))

    async def releases(self, request: Request) -> Response:
        """What is in force for each channel and until when, and which artefacts are refused."""
        await self.authenticator.operator(request, OperatorRole.READ)
        return _shown(RELEASE_STANDING, self.service.standing())

    async def holds(self, request: Request) -> Response:
        """Every hold that is on: who or what holds, since when and until when."""
        await self.authenticator.operator(request, OperatorRole.READ)
        return _shown(HOLD_LIST, HoldList(tuple(map(listed_hold, self.service.holds()))))

    async def warrants(self, request: Request) -> Response:
        """Every warrant that is relayed: whose order it is, why, until when, and how many hosts are to go yet."""
        await self.authenticator.operator(request, OperatorRole.READ)
        listed = WarrantList(tuple(map(listed_warrant, self.service.warrants())))
        return _shown(WARRANT_LIST, listed)

    async def shards(self, request: Request) -> Response:
        """Every shard: its channels, the end of its log, and how many inputs wait."""
        await self.authenticator.operator(request, OperatorRole.READ)
        return _shown(SHARD_LIST, ShardList(self.service.shards()))

    async def refused_enrollments(self, request: Request) -> Response:
        """The hosts that asked to enroll and were refused, the latest first."""
        await self.authenticator.operator(request, OperatorRole.READ)
        enrollments = RefusedEnrollments(self.service.notices.refused_enrollments)
        return _shown(REFUSED_ENROLLMENTS, enrollments)

    # Commands.

    async def pause(self, request: Request) -> Response:
        """Pause dispatches of a rollout."""
        return await self._pause(request, RolloutScope(_rollout_id(request)))

    async def pause_channel(self, request: Request) -> Response:
        """Pause dispatches of a channel."""
        return await self._pause(request, ChannelScope(request.path_params["channel"]))

    async def resume(self, request: Request) -> Response:
        """Resume dispatches of a rollout."""
        return await self._resume(request, RolloutScope(_rollout_id(request)))

    async def resume_channel(self, request: Request) -> Response:
        """Resume dispatches of a channel."""
        return await self._resume(request, ChannelScope(request.path_params["channel"]))

    async def pause_host(self, request: Request) -> Response:
        """Pause dispatches of a host."""
        return await self._pause(request, HostScope(request.path_params["hostname"]))

    async def resume_host(self, request: Request) -> Response:
        """Resume dispatches of a host, also of one that is held because it contradicted itself."""
        return await self._resume(request, HostScope(request.path_params["hostname"]))

    async def clear(self, request: Request) -> Response:
        """Clear a halted rollout, excusing the hosts that failed."""
        rollout_id = _rollout_id(request)

        def command(name: str, body: bytes) -> OperatorCommand:
            clearance = CLEARANCE.decode(body)
            excused = frozenset(clearance.excused_hosts)
            return ClearRollout(rollout_id, name, clearance.reason, excused)

        return await self._execute(request, command)

    async def excuse(self, request: Request) -> Response:
        """Go on without hosts of a live rollout: they count for nothing any more."""
        rollout_id = _rollout_id(request)

        def command(name: str, body: bytes) -> OperatorCommand:
            about = HOSTS.decode(body)
            return ExcuseHosts(rollout_id, frozenset(about.hosts), name, about.reason)

        return await self._execute(request, command)

    async def skip(self, request: Request) -> Response:
        """Do not wait for silent hosts of a live rollout: each is served once it is heard of."""
        rollout_id = _rollout_id(request)

        def command(name: str, body: bytes) -> OperatorCommand:
            about = HOSTS.decode(body)
            return SkipHosts(rollout_id, frozenset(about.hosts), name, about.reason)

        return await self._execute(request, command)

    async def retry(self, request: Request) -> Response:
        """Let failed hosts of a rollout try again."""
        rollout_id = _rollout_id(request)

        def command(name: str, body: bytes) -> OperatorCommand:
            about = RETRY.decode(body)
            return RetryHosts(rollout_id, frozenset(about.hosts), name, about.reason)

        return await self._execute(request, command)

    async def abort(self, request: Request) -> Response:
        """End a rollout for good: it dispatches no host any more."""
        rollout_id = _rollout_id(request)
        return await self._execute(
            request,
            lambda name, body: AbortRollout(rollout_id, name, REASON.decode(body).reason),
        )

    async def approve(self, request: Request) -> Response:
        """Take an operator's signed statement on a wave: an approval, a denial or a promotion."""
        rollout_id = _rollout_id(request)
        asked = await self.authenticator.operator(
            request, OperatorRole.OPERATE, body_bytes_max=None
        )
        try:
            signed = SIGNED_APPROVAL.decode(asked.body)
        except DecodeError as error:
            raise malformed(error) from error
        require_own(signed, asked.operator.name, rollout_id)
        outcome = await self.service.approve(signed)
        if outcome.refusal is not None:
            raise refusal("command-refused", "The command is refused", 409, outcome.refusal)
        return _shown(APPROVAL_TAKEN, ApprovalTaken(outcome.note))

    async def relay_warrant(self, request: Request) -> Response:
        """Relay a warrant that the operator signed to hosts of a rollout, which verify it themselves."""
        rollout_id = _rollout_id(request)

        def command(name: str, body: bytes) -> OperatorCommand:
            signed = WARRANT.decode(body)
            text = encode_signed_warrant(signed).decode()
            return RelayWarrant(rollout_id, text, name, signed.warrant.reason)

        return await self._execute(request, command)

    async def retire_quarantine(self, request: Request) -> Response:
        """Allow a quarantined closure on a channel again."""
        channel: str = request.path_params["channel"]

        def command(name: str, body: bytes) -> OperatorCommand:
            retirement = RETIREMENT.decode(body)
            return RetireQuarantine(channel, retirement.closure, name, retirement.reason)

        return await self._execute(request, command)

    async def hold(self, request: Request) -> Response:
        """Hold dispatches in a scope in the operator's name, until a time or until it is released."""

        def command(name: str, body: bytes) -> OperatorCommand:
            asked = HOLD.decode(body)
            return PlaceHold(_scope(asked.scope), name, asked.reason, asked.until)

        return await self._execute(request, command)

    async def release(self, request: Request) -> Response:
        """Lift one operator's hold on a scope. Other holds on it stay."""

        def command(name: str, body: bytes) -> OperatorCommand:
            asked = RELEASE.decode(body)
            return ReleaseHold(_scope(asked.scope), name, asked.reason, asked.holder)

        return await self._execute(request, command)

    async def _pause(self, request: Request, scope: HoldScope) -> Response:
        return await self._execute(
            request, lambda name, body: PauseScope(scope, name, REASON.decode(body).reason)
        )

    async def _resume(self, request: Request, scope: HoldScope) -> Response:
        return await self._execute(
            request, lambda name, body: ResumeScope(scope, name, REASON.decode(body).reason)
        )

    async def _execute(
        self, request: Request, command_of: Callable[[str, bytes], OperatorCommand]
    ) -> Response:
        asked = await self.authenticator.operator(
            request, OperatorRole.OPERATE, body_bytes_max=None
        )
        try:
            command = command_of(asked.operator.name, asked.body)
        except DecodeError as error:
            raise malformed(error) from error
        outcome = await self.service.command(command)
        if outcome.refusal is not None:
            raise refusal("command-refused", "The command is refused", 409, outcome.refusal)
        return no_content()


_PAGE = "a page; `next` is present if there are more items"
_CARRIED_OUT = Answer(204, "the command is durable and in effect")
_REFUSED = Answer(
    409, "the command cannot be carried out in the current state; the detail says why"
)
_ROLLOUT = paths.ROLLOUTS + "/{rollout_id}"
_CHANNEL = paths.CHANNELS + "/{channel}"

_Endpoint: TypeAlias = Endpoint[OperatorRoutes]


def _command(path: str, endpoint: _Endpoint, takes: Coder[Any]) -> Call[OperatorRoutes]:
    return Call("POST", path, endpoint, Caller.OPERATOR, (_CARRIED_OUT, _REFUSED), takes)


def _list(
    path: str, endpoint: _Endpoint, page: Coder[Any], after: Parameter
) -> Call[OperatorRoutes]:
    return Call(
        "GET", path, endpoint, Caller.READER, (Answer(200, _PAGE, page),), query=(after, LIMIT)
    )


OPERATOR_CALLS: Final[tuple[Call[OperatorRoutes], ...]] = (
    _list(paths.ROLLOUTS, OperatorRoutes.rollouts, ROLLOUT_PAGE, AFTER_ROW),
    _list(f"{_ROLLOUT}/events", OperatorRoutes.rollout_events, LOG_PAGE, AFTER_ROW),
    _list(paths.HOSTS, OperatorRoutes.hosts, HOST_PAGE, AFTER),
    _list(paths.DEFERRALS, OperatorRoutes.deferrals, DEFERRAL_PAGE, AFTER),
    Call(
        "GET",
        paths.RELEASES,
        OperatorRoutes.releases,
        Caller.READER,
        (Answer(200, "what is in force, and what is refused", RELEASE_STANDING),),
    ),
    Call(
        "GET",
        paths.REFUSED_ENROLLMENTS,
        OperatorRoutes.refused_enrollments,
        Caller.READER,
        (Answer(200, "the refused enrollments", REFUSED_ENROLLMENTS),),
    ),
    _command(f"{_ROLLOUT}/pause", OperatorRoutes.pause, REASON),
    _command(f"{_ROLLOUT}/resume", OperatorRoutes.resume, REASON),
    _command(f"{_ROLLOUT}/clear", OperatorRoutes.clear, CLEARANCE),
    _command(f"{_ROLLOUT}/excuse", OperatorRoutes.excuse, HOSTS),
    _command(f"{_ROLLOUT}/skip", OperatorRoutes.skip, HOSTS),
    _command(f"{_ROLLOUT}/retry", OperatorRoutes.retry, RETRY),
    _command(f"{_ROLLOUT}/abort", OperatorRoutes.abort, REASON),
    Call(
        "POST",
        f"{_ROLLOUT}/approvals",
        OperatorRoutes.approve,
        Caller.OPERATOR,
        (Answer(200, "the statement is durable and in effect", APPROVAL_TAKEN), _REFUSED),
        SIGNED_APPROVAL,
    ),
    _command(f"{_ROLLOUT}/warrants", OperatorRoutes.relay_warrant, WARRANT),
    _command(f"{_CHANNEL}/pause", OperatorRoutes.pause_channel, REASON),
    _command(f"{_CHANNEL}/resume", OperatorRoutes.resume_channel, REASON),
    _command(f"{paths.HOSTS}/{{hostname}}/pause", OperatorRoutes.pause_host, REASON),
    _command(f"{paths.HOSTS}/{{hostname}}/resume", OperatorRoutes.resume_host, REASON),
    Call(
        "GET",
        paths.HOLDS,
        OperatorRoutes.holds,
        Caller.READER,
        (Answer(200, "the holds that are on", HOLD_LIST),),
    ),
    Call(
        "GET",
        paths.WARRANTS,
        OperatorRoutes.warrants,
        Caller.READER,
        (Answer(200, "the warrants that are relayed", WARRANT_LIST),),
    ),
    Call(
        "GET",
        paths.SHARDS,
        OperatorRoutes.shards,
        Caller.READER,
        (Answer(200, "the shards", SHARD_LIST),),
    ),
    _command(paths.HOLDS, OperatorRoutes.hold, HOLD),
    _command(paths.RELEASED_HOLDS, OperatorRoutes.release, RELEASE),
    _command(f"{_CHANNEL}/quarantines/retire", OperatorRoutes.retire_quarantine, RETIREMENT),
)


def _scope(text: str) -> HoldScope:
    """Return the scope in a body. Raises: DecodeError."""
    try:
        return parse_scope(text)
    except InvalidRolloutId as error:
        problem = DecodeProblem("$.scope", "the scope of a hold", str(error))
        raise DecodeError("hold", (problem,)) from error


def _shown(coder: Coder[T], value: T) -> Response:
    return bytes_answer(coder.encode(value), "application/json")


# Each query fetches one item more than the page shows, to know whether there is a next page.


def _rollouts(records: tuple[RolloutRecord, ...], limit: int) -> RolloutPage:
    is_last = len(records) <= limit
    records = records[:limit]
    return RolloutPage(
        tuple(map(_rollout, records)),
        None if is_last else str(records[-1].opened_event_log_seq),
    )


def _rollout(record: RolloutRecord) -> ListedRollout:
    return ListedRollout(
        record.rollout_id,
        record.channel,
        record.state,
        record.current_wave,
        record.opened_at,
        tuple(sorted(record.excused_hosts)),
        standings=FrozenMap({str(it): count for it, count in standing_counts(record).items()}),
    )


def _host_page(
    found: HostList,
    limit: int,
    refusals_of: Callable[[str], tuple[ActingRefusal, ...]],
    contacts: Contacts,
) -> HostPage:
    hosts = tuple(
        _host(record, standing, drift, refusals_of(record.hostname), contacts.last(record.hostname))
        for record, standing, drift in zip(
            found.records[:limit], found.standings, found.drifts, strict=False
        )
    )
    return HostPage(hosts, None if len(found.records) <= limit else _place(hosts[-1]))


def _host(
    record: HostRolloutState,
    standing: Standing,
    drift: Drift | None,
    refusals: tuple[ActingRefusal, ...],
    contact: Contact | None,
) -> ListedHost:
    here = (it.reason for it in refusals if it.rollout_id == record.rollout_id)
    return ListedHost(
        record.hostname,
        record.rollout_id,
        record.state,
        record.target_closure,
        record.last_event_seq,
        record.current_closure,
        next(here, None),
        *heard(contact),
        standing,
        record.attempt,
        None if drift is None else drift.running,
    )


def _deferral_page(rows: tuple[Waiting, ...], limit: int) -> DeferralPage:
    waiting = tuple(map(_deferral, rows[:limit]))
    return DeferralPage(waiting, None if len(rows) <= limit else _place(waiting[-1]))


def _deferral(row: Waiting) -> ListedDeferral:
    return ListedDeferral(
        row.hostname, RolloutId(row.rollout_id), Gate(row.gate), row.reason, row.since
    )


def _place(item: ListedHost | ListedDeferral) -> str:
    return place_text(item.rollout_id, item.hostname)


def _log_page(rows: tuple[LogRow, ...], limit: int, asks: AsksApproval) -> LogPage:
    """Return the lines of `rows`, of which there is one more than `limit` if more follow.

    A page ends with a whole row, the one with which there are `limit` lines.
    """
    lines: list[ListedRow] = []
    for row in rows:
        if len(lines) >= limit:
            return LogPage(tuple(lines), str(lines[-1].seq))
        lines += listed_lines(row, asks)
    return LogPage(tuple(lines), None)


def _rollout_id(request: Request) -> RolloutId:
    text: str = request.path_params["rollout_id"]
    try:
        return RolloutId(text)
    except InvalidRolloutId as error:
        raise refusal("rollout-unknown", "The rollout is unknown", 404, str(error)) from error


def _limit(request: Request) -> int:
    return min(LIMIT.of(request), PAGE_LENGTH_MAX)
