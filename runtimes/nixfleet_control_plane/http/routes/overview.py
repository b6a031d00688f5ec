"""How the fleet stands, for screens: the sentences and the numbers are made in `overview`.

Source: docs/spec/overview.md.
"""

from datetime import datetime
from typing import Final

from attrs import evolve, frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.http.answers import bytes_answer, refusal
from nixfleet_control_plane.http.authentication import Authenticator
from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.http.contacts import Contacts
from nixfleet_control_plane.http.query import Parameter
from nixfleet_control_plane.messages.entry_codec import time_of
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.trust import OperatorRole
from nixfleet_runtime.documents.problems import unknown
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.overview import OVERVIEW

_ROLLOUT: Final = Parameter("rollout", "only this rollout", {"type": "string"})
_SECONDS: Final = 60
"""For how long an answer stays valid without a new row: some sentences change by the time alone."""


@frozen
class OverviewRoutes:
    """The overview. queries: what the store has committed."""

    service: ControlPlaneService
    authenticator: Authenticator
    queries: Queries
    contacts: Contacts

    async def overview(self, request: Request) -> Response:
        """How the current rollouts stand, what needs a person, why hosts wait, and what comes next."""
        asked = await self.authenticator.operator(request, OperatorRole.READ)
        rollout_id = self._rollout_id(request)
        tag = self._tag()
        if tag in request.headers.get("if-none-match", "").replace(" ", "").split(","):
            return Response(status_code=304, headers={"ETag": tag})
        now = self.service.now()
        found = self.service.overview(asked.operator, self.contacts.silent(now), rollout_id)
        if found.head_at is None:
            found = evolve(found, head_at=await self._written_at(found.head))
        answer = bytes_answer(OVERVIEW.encode(found), "application/json")
        answer.headers["ETag"] = tag
        return answer

    def _tag(self) -> str:
        """Return what changes whenever the answer may: the last row, and the minute."""
        minute = int(self.service.now().timestamp()) // _SECONDS
        return f'"{self.service.version}.{minute}"'

    async def _written_at(self, head: int) -> datetime | None:
        rows = await self.queries.log_rows(None, after_seq=head - 1, limit=1) if head else ()
        return time_of(rows[0].ts) if rows else None

    def _rollout_id(self, request: Request) -> RolloutId | None:
        text = _ROLLOUT.text(request)
        if text is None:
            return None
        known = self.service.shown_rollouts()
        try:
            rollout_id = RolloutId(text)
        except InvalidRolloutId as error:
            raise _unknown(str(error)) from error
        if rollout_id not in known:
            raise _unknown(str(unknown("", "rollout", text, known)))
        return rollout_id


def _unknown(detail: str) -> Exception:
    return refusal("rollout-unknown", "The rollout is unknown", 404, detail)


OVERVIEW_CALLS: Final[tuple[Call[OverviewRoutes], ...]] = (
    Call(
        "GET",
        paths.OVERVIEW,
        OverviewRoutes.overview,
        Caller.READER,
        (
            Answer(
                200,
                "how the fleet stands",
                OVERVIEW,
                FrozenMap({"ETag": "the last row of the log, and the minute"}),
            ),
            Answer(304, "nothing has changed since the answer with this ETag"),
            Answer(404, "the rollout is unknown, or pruned"),
        ),
        query=(_ROLLOUT,),
    ),
)
