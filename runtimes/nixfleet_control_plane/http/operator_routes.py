"""The routes of operators: what is going on, why somebody waits, and the commands. Source: design 5.

Lists are read from committed rows, through a read-only connection; commands go ahead of the queue and into the
log with the operator's name.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
from attrs import field, frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane import queries
from nixfleet_control_plane.http.answers import json_answer, malformed, nothing, refusal
from nixfleet_control_plane.http.authentication import Gatekeeper
from nixfleet_control_plane.http.commands import decode_clearance, decode_reason, decode_retirement
from nixfleet_control_plane.inputs import (
    ClearRollout,
    OperatorCommand,
    PauseScope,
    ResumeScope,
    RetireQuarantine,
)
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.codec import DecodeError, format_time
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.trust import OperatorRole
from nixfleet_state_machine.host.state import HostRolloutState

T = TypeVar("T")
EVENTS_PER_PAGE_MAX = 500


@frozen
class OperatorRoutes:
    """What an operator can call. `database` is the file that the store writes."""

    service: ControlPlaneService
    gatekeeper: Gatekeeper
    database: Path
    _queries: anyio.CapacityLimiter = field(factory=lambda: anyio.CapacityLimiter(4))

    # What is going on.

    async def rollouts(self, request: Request) -> Response:
        """200 with every rollout's record, oldest first."""
        await self.gatekeeper.operator(request, OperatorRole.READ)
        return json_answer({"rollouts": await self._query(_rollouts)})

    async def rollout_events(self, request: Request) -> Response:
        """200 with a page of the log of one rollout, after `after`."""
        await self.gatekeeper.operator(request, OperatorRole.READ)
        rollout_id, after_seq = _rollout_id(request), _after_seq(request)
        return json_answer(
            {"events": await self._query(lambda c: _events(c, rollout_id, after_seq))}
        )

    async def hosts(self, request: Request) -> Response:
        """200 with every host's record in the rollouts that are not pruned."""
        await self.gatekeeper.operator(request, OperatorRole.READ)
        records = (await self.service.host_records()).records
        return json_answer({"hosts": [_host(record) for record in records]})

    async def deferrals(self, request: Request) -> Response:
        """200 with who waits, for which gate, why and since when."""
        await self.gatekeeper.operator(request, OperatorRole.READ)
        return json_answer({"deferrals": await self._query(_deferrals)})

    async def explain(self, request: Request) -> Response:
        """200 with every gate that holds the host, by rollout."""
        await self.gatekeeper.operator(request, OperatorRole.READ)
        explanation = await self.service.explain(request.path_params["hostname"])
        return json_answer(
            {
                str(rollout_id): [
                    {"gate": block.gate.value, "reason": block.reason, "detail": block.detail}
                    for block in blocks
                ]
                for rollout_id, blocks in explanation.blocks.items()
            }
        )

    # Commands.

    async def pause(self, request: Request) -> Response:
        """204 once nothing of the scope is dispatched any more."""
        scope = _scope(request)
        return await self._obey(
            request, lambda name, body: PauseScope(scope, name, decode_reason(body).reason)
        )

    async def resume(self, request: Request) -> Response:
        """204 once the scope is dispatched again."""
        scope = _scope(request)
        return await self._obey(
            request, lambda name, body: ResumeScope(scope, name, decode_reason(body).reason)
        )

    async def clear(self, request: Request) -> Response:
        """204 once the halted rollout goes on."""
        rollout_id = _rollout_id(request)

        def command(name: str, body: bytes) -> OperatorCommand:
            clearance = decode_clearance(body)
            excused = frozenset(clearance.excused_hosts)
            return ClearRollout(rollout_id, name, clearance.reason, excused)

        return await self._obey(request, command)

    async def retire_quarantine(self, request: Request) -> Response:
        """204 once the channel may get the closure again."""
        channel: str = request.path_params["channel"]

        def command(name: str, body: bytes) -> OperatorCommand:
            retirement = decode_retirement(body)
            return RetireQuarantine(channel, retirement.closure, name, retirement.reason)

        return await self._obey(request, command)

    async def _obey(
        self, request: Request, command_of: Callable[[str, bytes], OperatorCommand]
    ) -> Response:
        asked = await self.gatekeeper.operator(request, OperatorRole.OPERATE)
        try:
            command = command_of(asked.operator.name, asked.body)
        except DecodeError as error:
            raise malformed(error) from error
        outcome = await self.service.command(command)
        if outcome.refusal is not None:
            raise refusal("command-refused", "The command is refused", 409, outcome.refusal)
        return nothing()

    async def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await anyio.to_thread.run_sync(_queried, self.database, query, limiter=self._queries)


def _queried(database: Path, query: Callable[[sqlite3.Connection], T]) -> T:
    connection = queries.open_for_reading(database)
    try:
        return query(connection)
    finally:
        connection.close()


def _rollouts(connection: sqlite3.Connection) -> list[JsonValue]:
    return [
        {
            "rolloutId": record.rollout_id,
            "channel": record.channel,
            "state": record.state.value,
            "currentWave": record.current_wave,
            "openedAt": format_time(record.opened_at),
            "excusedHosts": sorted(record.excused_hosts),
        }
        for record in queries.rollouts(connection)
    ]


def _host(record: HostRolloutState) -> JsonValue:
    return {
        "hostname": record.hostname,
        "rolloutId": record.rollout_id,
        "state": record.state.value,
        "targetClosure": record.target_closure,
        "currentClosure": record.current_closure,
        "lastEventSeq": record.last_event_seq,
    }


def _deferrals(connection: sqlite3.Connection) -> list[JsonValue]:
    return [
        {
            "hostname": waiting.hostname,
            "rolloutId": waiting.rollout_id,
            "gate": waiting.gate,
            "reason": waiting.reason,
            "since": format_time(waiting.since),
        }
        for waiting in queries.deferrals(connection)
    ]


def _events(
    connection: sqlite3.Connection, rollout_id: RolloutId, after_seq: int
) -> list[JsonValue]:
    rows = queries.log_rows(connection, rollout_id, after_seq=after_seq, limit=EVENTS_PER_PAGE_MAX)
    return [
        {
            "seq": row.seq,
            "ts": row.ts,
            "kind": row.kind,
            "host": row.host_id,
            "payload": row.payload,
            "signature": row.signature,
        }
        for row in rows
    ]


def _rollout_id(request: Request) -> RolloutId:
    text: str = request.path_params["rollout_id"]
    try:
        return RolloutId(text)
    except InvalidRolloutId as error:
        raise refusal("rollout-unknown", "The rollout is unknown", 404, str(error)) from error


def _scope(request: Request) -> str:
    channel: str | None = request.path_params.get("channel")
    return _rollout_id(request) if channel is None else channel


def _after_seq(request: Request) -> int:
    text = request.query_params.get("after", "0")
    if not text.isdecimal() or len(text) > 18:
        raise refusal(
            "malformed-query",
            "The query cannot be read",
            422,
            f"$.after: expected a log row, found {text!r}",
        )
    return int(text)
