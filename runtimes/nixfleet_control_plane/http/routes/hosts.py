"""The routes about hosts: one explained, one whole, and all of a rollout in columns.

Source: docs/spec/overview.md, One host; docs/spec/overview.md, All hosts of a rollout.
"""

from collections.abc import Collection, Sequence
from typing import Final

import anyio
import anyio.lowlevel
import anyio.to_thread
from attrs import evolve, field, frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.http.answers import bytes_answer, refusal
from nixfleet_control_plane.http.authentication import Authenticator
from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.http.contacts import Contact, Contacts, heard
from nixfleet_control_plane.http.listed_lines import asks_approval, listed_lines
from nixfleet_control_plane.http.query import Parameter
from nixfleet_control_plane.http.routes.warrants import listed_recall
from nixfleet_control_plane.messages.entry_codec import DamagedRow, entry_of
from nixfleet_control_plane.messages.inputs import Explanation
from nixfleet_control_plane.messages.log_entry import LoggedEntry, LogRow
from nixfleet_control_plane.overview.explanation import explained_rollout, explanation_lines
from nixfleet_control_plane.overview.host_map import shown_map
from nixfleet_control_plane.overview.one_host import facts_in
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_control_plane.store.queries import Waiting
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.trust import OperatorRole
from nixfleet_runtime.documents.problems import unknown
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.host_pages import (
    HOST_MAP,
    HOST_WHOLE,
    HostRecordPage,
    HostWhole,
)
from nixfleet_runtime.http.listings import (
    HOST_EXPLAINED,
    ExplainedRollout,
    HostExplained,
    LeftRollout,
    ListedRow,
    WaitingEvent,
)
from nixfleet_runtime.transport import EventEarly
from nixfleet_state_machine.planner.host_status import HostInFleet, HostInRollout
from nixfleet_state_machine.planner.terms import RolloutTerms

ROWS_SHOWN: Final = 20
ROWS_READ: Final = 60
"""More than are shown: why a host failed may be in an older one."""
PORTION: Final = 5_000
"""So many hosts of a map are looked at before others have their turn."""
_MEMBERS = Parameter(
    "members",
    "`members` of an answer whose names you have: they are left out then",
    {"type": "string"},
)


@frozen
class HostRoutes:
    """The calls about hosts. queries: what the store has committed."""

    service: ControlPlaneService
    authenticator: Authenticator
    queries: Queries
    contacts: Contacts
    _comparing: anyio.CapacityLimiter = field(factory=lambda: anyio.CapacityLimiter(4))

    async def explain(self, request: Request) -> Response:
        """Where a host stands, what it waits for, and until when."""
        await self.authenticator.operator(request, OperatorRole.READ)
        _, explained = await self._explanation(request)
        return bytes_answer(HOST_EXPLAINED.encode(explained), "application/json")

    async def host(self, request: Request) -> Response:
        """Everything that is known of a host: records, gates, times, probes, failure, and latest rows of the log."""
        await self.authenticator.operator(request, OperatorRole.READ)
        status, explained = await self._explanation(request)
        hostname = status.hostname
        waiting = await self.queries.waiting_of(hostname)
        pages = [await self._page(hostname, each, waiting) for each in status.rollouts]
        whole = HostWhole(
            hostname,
            self.service.now(),
            self.service.feed.head,
            tuple(explanation_lines(explained)),
            explained,
            tuple(page for page in pages if page is not None),
        )
        return bytes_answer(HOST_WHOLE.encode(whole), "application/json")

    async def host_map(self, request: Request) -> Response:
        """All hosts of a rollout in columns: wave, name, state and standing."""
        await self.authenticator.operator(request, OperatorRole.READ)
        rollout_id, known = self._rollout_id(request), _MEMBERS.text(request)
        manifest = self.service.manifest_in_use(rollout_id)
        if manifest is None:
            raise _no_rollout(
                f"expected a rollout with a manifest, found {rollout_id}, which lost it"
            )
        # Sorting many names takes a while, at the first call.
        order = await anyio.to_thread.run_sync(_order, manifest.terms)
        states, standings = await self._columns(rollout_id, order)
        if len(states) != len(order):
            raise _no_rollout(f"{rollout_id} was pruned")
        shown = shown_map(manifest, self.service.feed.head, states, standings, known)
        return bytes_answer(HOST_MAP.encode(shown), "application/json")

    async def _columns(self, rollout_id: RolloutId, order: Sequence[str]) -> tuple[str, str]:
        states, standings = list[str](), list[str]()
        for begin in range(0, len(order), PORTION):
            part = self.service.map_columns(rollout_id, order[begin : begin + PORTION])
            states.append(part[0])
            standings.append(part[1])
            await anyio.lowlevel.checkpoint()
        return "".join(states), "".join(standings)

    def _rollout_id(self, request: Request) -> RolloutId:
        text, known = request.path_params["rollout_id"], self.service.shown_rollouts()
        try:
            rollout_id = RolloutId(text)
        except InvalidRolloutId as error:
            raise _no_rollout(str(error)) from error
        if rollout_id not in known:
            raise _no_rollout(str(unknown("", "rollout", text, known)))
        return rollout_id

    async def _explanation(self, request: Request) -> tuple[HostInFleet, HostExplained]:
        hostname: str = request.path_params["hostname"]
        explanation = await self.service.explain(hostname)
        if explanation.status is None:
            raise await self._no_host(hostname, explanation)
        refusals = self.service.notices.refusals_of(hostname)
        rollouts = tuple(
            explained_rollout(it, self.service.host_commands(it.rollout_id, hostname))
            for it in explanation.status.rollouts
        )
        contact = self.contacts.last(hostname)
        explained = _explained(explanation.status, rollouts, explanation.early, contact)
        left = await self._left(hostname, explanation.status.left)
        recalls = tuple(map(listed_recall, self.service.recalls_of(hostname)))
        explained = evolve(explained, refusals=refusals, left=left, recalls=recalls)
        return explanation.status, explained

    async def _no_host(self, hostname: str, explanation: Explanation) -> Exception:
        # A large fleet has many names to compare with.
        meant = await anyio.to_thread.run_sync(
            _unknown_host, hostname, explanation.known, limiter=self._comparing
        )
        return refusal("host-unknown", "The host is unknown", 404, meant)

    async def _page(
        self, hostname: str, status: HostInRollout, waiting: tuple[Waiting, ...]
    ) -> HostRecordPage | None:
        rows = await self.queries.host_rows(status.rollout_id, hostname, limit=ROWS_READ)
        facts = tuple(facts_in([entry for row in rows if (entry := _entry(row)) is not None]))
        lines = tuple(self._lines(rows[:ROWS_SHOWN]))
        return self.service.host_record_page(hostname, status, waiting, facts, lines)

    def _lines(self, rows: Sequence[LogRow]) -> list[ListedRow]:
        asks = asks_approval(self.service)
        return [line for row in rows for line in reversed(tuple(listed_lines(row, asks)))]

    async def _left(self, hostname: str, left: tuple[RolloutId, ...]) -> tuple[LeftRollout, ...]:
        """The record of a rollout says that a host left, and its log when. Nearly no host did."""
        return tuple([LeftRollout(id_, await self.queries.left_at(id_, hostname)) for id_ in left])


def _order(terms: RolloutTerms) -> tuple[str, ...]:
    return terms.hosts_in_order


def _entry(row: LogRow) -> LoggedEntry | None:
    try:
        return entry_of(row)
    except DamagedRow:
        return None  # Its line says so.


def _no_rollout(detail: str) -> Exception:
    return refusal("rollout-unknown", "The rollout is unknown", 404, detail)


def _unknown_host(hostname: str, known: Collection[str]) -> str:
    if not known:
        return f"no host {hostname!r} is known: nothing is in force, and no rollout is open"
    return str(unknown("", "host", hostname, known))


def _explained(
    status: HostInFleet,
    rollouts: tuple[ExplainedRollout, ...],
    early: tuple[EventEarly, ...],
    contact: Contact | None,
) -> HostExplained:
    return HostExplained(
        status.hostname,
        rollouts,
        (),
        tuple(WaitingEvent(each.rollout_id, each.seq, each.reason) for each in early),
        *heard(contact),
        channel=status.channel,
        outside=status.outside,
    )


_NO_HOST = Answer(404, "no fleet in force and no open rollout names this host")
HOST_CALLS: Final[tuple[Call[HostRoutes], ...]] = (
    Call(
        "GET",
        paths.HOSTS + "/{hostname}",
        HostRoutes.host,
        Caller.READER,
        (Answer(200, "the host", HOST_WHOLE), _NO_HOST),
    ),
    Call(
        "GET",
        paths.HOSTS + "/{hostname}/explain",
        HostRoutes.explain,
        Caller.READER,
        (
            Answer(200, "where it stands, and the holding gates, by rollout", HOST_EXPLAINED),
            _NO_HOST,
        ),
    ),
    Call(
        "GET",
        paths.ROLLOUTS + "/{rollout_id}/hosts",
        HostRoutes.host_map,
        Caller.READER,
        (
            Answer(200, "the hosts, in columns", HOST_MAP),
            Answer(404, "the rollout is unknown, or pruned"),
        ),
        query=(_MEMBERS,),
    ),
)
