"""The routes of studies: what is found by reading the log once more. A process of its own reads, one at a time.

Source: docs/spec/wire.md, Operator calls; docs/spec/studies.md.
"""

from typing import Final, TypeVar

from attrs import evolve, frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.forecaster import Forecaster, NoForecast, StudyImpossible
from nixfleet_control_plane.http.answers import bytes_answer, refusal
from nixfleet_control_plane.http.authentication import Authenticator
from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.http.query import AFTER_ROW, LIMIT, Number
from nixfleet_control_plane.http.routes.forecasts import no_answer
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.trust import Operator, OperatorRole
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.listings import PAGE_LENGTH_MAX
from nixfleet_runtime.http.overview import Asker
from nixfleet_runtime.http.studies import BACKTEST, CHAIN, CHANGES, PAST

T = TypeVar("T")
_ROW: Final = Number(
    "row", "the row up to which the log is read", {"type": "integer", "minimum": 1}, 1, 1
)


@frozen
class StudyRoutes:
    """The calls that read the log once more."""

    forecaster: Forecaster
    authenticator: Authenticator

    async def past(self, request: Request) -> Response:
        """The fleet as it was at a row of the log: its overview, and all hosts in columns."""
        asked = await self._reader(request)
        found = await self._studied(PAST, {"study": "past", "row": _ROW.of(request)})
        you = Asker(asked.name, asked.role)
        found = evolve(found, overview=evolve(found.overview, you=you))
        return bytes_answer(PAST.encode(found), "application/json")

    async def changes(self, request: Request) -> Response:
        """What a release changed against the one before of its channel, and how many hosts it touches."""
        await self._reader(request)
        question: dict[str, JsonValue] = {"study": "changes", "rollout": _rollout_id(request)}
        return await self._answer(CHANGES, question)

    async def backtest(self, request: Request) -> Response:
        """What the policy of a release would have done to the other releases of its channel."""
        await self._reader(request)
        question: dict[str, JsonValue] = {"study": "backtest", "rollout": _rollout_id(request)}
        return await self._answer(BACKTEST, question)

    async def chain(self, request: Request) -> Response:
        """Whether each row of the log follows from the one before, and the hashes of rows."""
        await self._reader(request)
        limit = min(LIMIT.of(request), PAGE_LENGTH_MAX)
        question: dict[str, JsonValue] = {
            "study": "chain",
            "after": AFTER_ROW.of(request),
            "limit": limit,
        }
        return await self._answer(CHAIN, question)

    async def _reader(self, request: Request) -> Operator:
        return (await self.authenticator.operator(request, OperatorRole.READ)).operator

    async def _answer(self, coder: Coder[T], question: dict[str, JsonValue]) -> Response:
        found = await self._studied(coder, question)
        return bytes_answer(coder.encode(found), "application/json")

    async def _studied(self, coder: Coder[T], question: dict[str, JsonValue]) -> T:
        try:
            return await self.forecaster.study(question, coder)
        except StudyImpossible as error:
            title = "The log does not have it"
            raise refusal("study-impossible", title, 404, error.why) from error
        except NoForecast as error:
            raise no_answer(error, "study", "studies") from error


def _rollout_id(request: Request) -> RolloutId:
    try:
        return RolloutId(request.path_params["rollout_id"])
    except InvalidRolloutId as error:
        raise refusal("rollout-unknown", "The rollout is unknown", 404, str(error)) from error


_NONE = (
    Answer(404, "the log does not have it, or forecasts are off"),
    Answer(503, "none at the moment; the detail says why"),
)
STUDY_CALLS: Final[tuple[Call[StudyRoutes], ...]] = (
    Call(
        "GET",
        paths.PAST,
        StudyRoutes.past,
        Caller.READER,
        (Answer(200, "the fleet as of that row", PAST), *_NONE),
        query=(_ROW,),
    ),
    Call(
        "GET",
        paths.LOG_CHAIN,
        StudyRoutes.chain,
        Caller.READER,
        (Answer(200, "how far the log is intact, and the hashes", CHAIN), *_NONE),
        query=(AFTER_ROW, LIMIT),
    ),
    Call(
        "GET",
        paths.ROLLOUTS + "/{rollout_id}/changes",
        StudyRoutes.changes,
        Caller.READER,
        (Answer(200, "what it changed, and how many hosts it touches", CHANGES), *_NONE),
    ),
    Call(
        "GET",
        paths.ROLLOUTS + "/{rollout_id}/backtest",
        StudyRoutes.backtest,
        Caller.READER,
        (Answer(200, "its policy beside those that were recorded", BACKTEST), *_NONE),
    ),
)
