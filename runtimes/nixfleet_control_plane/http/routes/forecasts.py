"""The route of forecasts: what is to come, as ranges. Computed elsewhere, by a process of its own.

Source: docs/spec/wire.md, Operator calls; docs/spec/forecast.md.
"""

from typing import Final

import anyio.to_thread
from attrs import evolve, frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.forecaster import Forecaster, NoForecast, NoPlan
from nixfleet_control_plane.http.answers import (
    Refusal,
    bytes_answer,
    malformed,
    refusal,
    unavailable,
)
from nixfleet_control_plane.http.authentication import Authenticator
from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.http.query import Parameter
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.trust import OperatorRole
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.forecasts import FORECAST
from nixfleet_runtime.http.plans import PLAN_BODY, require_artefacts

_ROLLOUT: Final = Parameter(
    "rollout", "only this rollout; default: all that are under way", {"type": "string"}
)


@frozen
class ForecastRoutes:
    """The calls about what is to come."""

    forecaster: Forecaster
    authenticator: Authenticator

    async def forecast(self, request: Request) -> Response:
        """How the rollouts under way go on, if no further host fails and operators do nothing."""
        await self.authenticator.operator(request, OperatorRole.READ)
        wanted = _ROLLOUT.text(request)
        try:
            found = await self.forecaster.forecast()
        except NoForecast as error:
            raise no_answer(error, "forecast") from error
        if wanted is not None:
            rollouts = tuple(it for it in found.rollouts if it.rollout_id == wanted)
            slow = tuple(it for it in found.slow if it.rollout_id == wanted)
            found = evolve(found, rollouts=rollouts, slow=slow)
        return bytes_answer(FORECAST.encode(found), "application/json")

    async def plan(self, request: Request) -> Response:
        """How a release would go that is not published. Nothing is verified, and nothing is put in force."""
        asked = await self.authenticator.operator(request, OperatorRole.READ, body_bytes_max=None)
        try:
            release = PLAN_BODY.decode(asked.body)
        except DecodeError as error:
            raise malformed(error) from error
        try:
            # Reading the artefacts of a large fleet takes a while.
            await anyio.to_thread.run_sync(require_artefacts, release)
        except DecodeError as error:
            raise refusal("no-plan", "The release cannot be read", 409, str(error)) from error
        try:
            found = await self.forecaster.plan(release)
        except NoPlan as error:
            raise refusal("no-plan", "The release cannot be planned", 409, error.why) from error
        except NoForecast as error:
            raise no_answer(error, "plan") from error
        return bytes_answer(FORECAST.encode(found), "application/json")


def no_answer(error: NoForecast, what: str, plural: str | None = None) -> Refusal:
    """Return 503 with the time to ask again, or 404 where `what` is off. plural: of it, if not with an s."""
    if error.retry_after_seconds is None:
        return refusal("forecast-off", f"There are no {plural or what + 's'}", 404, error.why)
    return unavailable(f"No {what} at the moment", error.why, error.retry_after_seconds)


FORECAST_CALLS: Final[tuple[Call[ForecastRoutes], ...]] = (
    Call(
        "POST",
        paths.PLAN,
        ForecastRoutes.plan,
        Caller.READER,
        (
            Answer(200, "what is to come if it were published now, as ranges", FORECAST),
            Answer(404, "forecasts are off"),
            Answer(
                409, "its artefacts do not fit together, or it is in force; the detail says why"
            ),
            Answer(503, "none at the moment; the detail says why"),
        ),
        PLAN_BODY,
    ),
    Call(
        "GET",
        paths.FORECAST,
        ForecastRoutes.forecast,
        Caller.READER,
        (
            Answer(200, "ranges of time, as of a row of the log", FORECAST),
            Answer(404, "forecasts are off"),
            Answer(503, "none at the moment; the detail says why"),
        ),
        query=(_ROLLOUT,),
    ),
)
