"""The application: the routes, and the responses to errors.

Every error becomes `application/problem+json`. An unexpected one becomes a 500 without internal details; the details
go to the process log.
Source: docs/spec/wire.md, Calls; docs/spec/wire.md, Errors.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cache, partial
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar

from attrs import frozen
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from nixfleet_control_plane.forecaster import Forecaster, NoForecaster
from nixfleet_control_plane.http.answers import Refusal, problem_answer, unavailable
from nixfleet_control_plane.http.authentication import Authenticator
from nixfleet_control_plane.http.calls import Call
from nixfleet_control_plane.http.contacts import Contacts
from nixfleet_control_plane.http.earlier_commands import FRESH_SECONDS
from nixfleet_control_plane.http.metrics import Metrics
from nixfleet_control_plane.http.openapi import openapi_document
from nixfleet_control_plane.http.routes.agent import AGENT_CALLS, AgentRoutes
from nixfleet_control_plane.http.routes.enrollment import ENROLLMENT_CALLS, EnrollmentRoutes
from nixfleet_control_plane.http.routes.fleet import FLEET_CALLS, FleetRoutes
from nixfleet_control_plane.http.routes.forecasts import FORECAST_CALLS, ForecastRoutes
from nixfleet_control_plane.http.routes.hosts import HOST_CALLS, HostRoutes
from nixfleet_control_plane.http.routes.log import LOG_CALLS, LogRoutes
from nixfleet_control_plane.http.routes.open import OPEN_CALLS, OpenRoutes
from nixfleet_control_plane.http.routes.operator import OPERATOR_CALLS, OperatorRoutes
from nixfleet_control_plane.http.routes.overview import OVERVIEW_CALLS, OverviewRoutes
from nixfleet_control_plane.http.routes.previews import PREVIEW_CALLS, PreviewRoutes
from nixfleet_control_plane.http.routes.studies import STUDY_CALLS, StudyRoutes
from nixfleet_control_plane.http.server.limits import Limits, Pollers
from nixfleet_control_plane.http.server.paths import UndecodedPaths
from nixfleet_control_plane.messages.key_ring import KeyRing
from nixfleet_control_plane.reading.queries import NotReadable, Queries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_runtime.http.problem import TYPE_PREFIX, UNTYPED, HttpProblem
from nixfleet_runtime.http.signing.nonces import EarlierRequests, NonceMemory
from nixfleet_runtime.http.signing.refusal import RequestRefused
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.mutator import MutatorClosed, QueueFull, WriteFailed
from nixfleet_runtime.kernel.write_failures import NotCurrent, OwnershipLost

R = TypeVar("R")
_log = logging.getLogger(__name__)
ALL_CALLS: Final[tuple[Call[Any], ...]] = (
    *OPEN_CALLS,
    *ENROLLMENT_CALLS,
    *AGENT_CALLS,
    *OPERATOR_CALLS,
    *HOST_CALLS,
    *FLEET_CALLS,
    *OVERVIEW_CALLS,
    *LOG_CALLS,
    *FORECAST_CALLS,
    *PREVIEW_CALLS,
    *STUDY_CALLS,
)

_NO_FORECASTER: Final = NoForecaster("this control plane computes none")
_Respond: TypeAlias = Callable[[Request, Exception], Awaitable[Response]]


def shutting_down() -> Refusal:
    """Return the answer of a control plane that ends, and that no other one stands in for."""
    return unavailable("Shutting down", "the control plane is shutting down", 5)


def make_app(
    service: ControlPlaneService,
    ring: Callable[[], KeyRing],
    queries: Queries,
    clock: Clock,
    *,
    not_ready_because: Callable[[], str | None] = lambda: None,
    readiness_detail: Callable[[], tuple[str, ...]] = lambda: (),
    limits: Limits | None = None,
    metrics: Metrics | None = None,
    signed_since: datetime | None = None,
    earlier_commands: EarlierRequests | None = None,
    versions: tuple[str, ...] = (),
    health_detail: Callable[[], tuple[str, ...]] = tuple,
    forecaster: Forecaster = _NO_FORECASTER,
    on_closing: Callable[[], Refusal] = shutting_down,
) -> Starlette:
    """Return the ASGI application in front of `service`.

    ring: returns the keys in force. queries: what the service's store has committed.
    not_ready_because: the reason that `/readyz` returns; `None`: ready. readiness_detail: lines that `/readyz` adds.
    signed_since: requests signed in the minute before are refused; `None`: now. earlier_commands: those that an earlier
    process may have carried out already; `None`: all that were signed earlier than now. versions: lines that `/healthz`
    adds. forecaster: gives forecasts. on_closing: the answer to what is not handled any more, by this process.
    """
    limits, metrics = limits or Limits(), metrics or Metrics()
    contacts = Contacts(clock.now())
    since = signed_since or clock.now()
    nonces = NonceMemory(FRESH_SECONDS, since)
    authenticator = Authenticator(
        ring,
        nonces,
        NonceMemory(
            FRESH_SECONDS, since, earlier=earlier_commands or EarlierRequests(signed_since=since)
        ),
        limits,
        clock,
        contacts,
    )
    metrics.gauge(
        "nixfleet_host_clock_skew_seconds_max",
        "by how much the worst clock of the hosts heard in the last ten minutes is off",
        lambda: contacts.skew_seconds_max(clock.now()),
    )
    metrics.gauge(
        "nixfleet_hosts_silent",
        "hosts that were heard since the start, but not for three minutes",
        lambda: contacts.silent(clock.now()),
    )
    pollers = Pollers(limits.pollers_per_host_max, limits.pollers_max, "host")
    viewers = Pollers(limits.viewers_per_operator_max, limits.viewers_max, "operator")
    metrics.gauge("nixfleet_dispatch_polls", "polls that wait for a dispatch", lambda: len(pollers))
    metrics.gauge(
        "nixfleet_log_readers", "readers that wait for the log to grow", lambda: len(viewers)
    )
    agents = AgentRoutes(service, authenticator, pollers)
    enrollments = EnrollmentRoutes(service, authenticator)
    fleet = FleetRoutes(service, authenticator, queries, contacts)
    hosts = HostRoutes(service, authenticator, queries, contacts)
    operators = OperatorRoutes(service, authenticator, queries, contacts)
    overviews = OverviewRoutes(service, authenticator, queries, contacts)
    log = LogRoutes.of(service, authenticator, queries, viewers)
    forecasts = ForecastRoutes(forecaster, authenticator)
    previews = PreviewRoutes(forecaster, authenticator, operators)
    studies = StudyRoutes(forecaster, authenticator)
    open_routes = OpenRoutes(
        not_ready_because,
        lambda: nonces.clock_problem,
        readiness_detail,
        metrics,
        cache(partial(openapi_document, ALL_CALLS)),
        versions,
        health_detail,
    )
    app = Starlette(
        routes=[
            # Matched in order: the most frequent calls come first.
            *_routes(AGENT_CALLS, agents),
            *_routes(OPEN_CALLS, open_routes),
            *_routes(ENROLLMENT_CALLS, enrollments),
            *_routes(OPERATOR_CALLS, operators),
            *_routes(HOST_CALLS, hosts),
            *_routes(FLEET_CALLS, fleet),
            *_routes(OVERVIEW_CALLS, overviews),
            *_routes(LOG_CALLS, log),
            *_routes(FORECAST_CALLS, forecasts),
            *_routes(PREVIEW_CALLS, previews),
            *_routes(STUDY_CALLS, studies),
        ],
        exception_handlers={
            kind: partial(_counted, metrics, respond)
            for kind, respond in (
                (Refusal, _refusal_response),
                (RequestRefused, _request_refused_response),
                (HTTPException, _http_exception_response),
                (QueueFull, _full),
                (WriteFailed, partial(_not_written, on_closing)),
                (MutatorClosed, partial(_closing, on_closing)),
                (NotReadable, _not_read),
                (Exception, _failed),
            )
        },
        middleware=[Middleware(UndecodedPaths)],
    )
    # A path with an extra slash is a different path: a signature that covers it is not valid for this one.
    app.router.redirect_slashes = False
    return app


def make_open_app(open_routes: OpenRoutes, otherwise: Callable[[], Refusal]) -> Starlette:
    """Return the application of a process that serves nobody: the open calls, and one answer to all else."""

    async def refuse(request: Request) -> Response:
        raise otherwise()

    return Starlette(
        routes=[*_routes(OPEN_CALLS, open_routes), Route("/{path:path}", _Endpoint(refuse))],
        exception_handlers={
            Refusal: _refusal_response,
            HTTPException: _http_exception_response,
            Exception: _failed,
        },
    )


def _routes(calls: tuple[Call[R], ...], routes: R) -> list[Route]:
    return [
        Route(
            # Names are decoded per segment: see `server.paths`.
            call.path.replace("}", ":name}"),
            _Endpoint(partial(call.endpoint, routes)),
            methods=[call.method],
        )
        for call in calls
    ]


@frozen
class _Endpoint:
    """An endpoint as an ASGI application, without Starlette's wrapper, which would handle exceptions a second time."""

    answer: Callable[[Request], Awaitable[Response]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.answer(Request(scope, receive, send))
        await response(scope, receive, send)


async def _counted(
    metrics: Metrics, respond: _Respond, request: Request, error: Exception
) -> Response:
    """Count the refusal by its cause: the name of its problem, of which there are few, or its status."""
    response = await respond(request, error)
    metrics.count_refusal(_cause_of(error, response))
    return response


def _cause_of(error: Exception, response: Response) -> str:
    if isinstance(error, RequestRefused):
        return error.name
    if isinstance(error, Refusal):
        return error.problem.type.removeprefix(TYPE_PREFIX)
    return str(response.status_code)


async def _refusal_response(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal), error
    return problem_answer(error.problem, error.headers)


async def _request_refused_response(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused), error
    return problem_answer(error.as_problem(), error.headers)


async def _http_exception_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), error
    if error.status_code != HTTPStatus.METHOD_NOT_ALLOWED:
        return problem_answer(HttpProblem(UNTYPED, error.detail, error.status_code), error.headers)
    allowed = {method.strip() for method in (error.headers or {})["Allow"].split(",")}
    headers = {"Allow": ", ".join(sorted(allowed | {"OPTIONS"}))}
    if request.method == "OPTIONS":
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    return problem_answer(HttpProblem(UNTYPED, error.detail, error.status_code), headers)


async def _full(_: Request, error: Exception) -> Response:
    return _unavailable("Overloaded", str(error), retry_after_seconds=1)


# Internal errors may name files and other details: these go to the log, not into the response.


async def _not_written(on_closing: Callable[[], Refusal], _: Request, error: Exception) -> Response:
    if isinstance(error.__cause__, NotCurrent | OwnershipLost):
        # Nothing happened, and another process leads, or may do so.
        return _answered(on_closing())
    _log.error("%s", error)
    detail = "the request could not be made durable and was not carried out"
    return _unavailable("The database cannot be written", detail, retry_after_seconds=5)


async def _not_read(_: Request, error: Exception) -> Response:
    _log.error("%s", error)
    detail = "stored data cannot be read at the moment"
    return _unavailable("The database cannot be read", detail, retry_after_seconds=5)


async def _closing(on_closing: Callable[[], Refusal], _: Request, error: Exception) -> Response:
    return _answered(on_closing())


def _unavailable(title: str, detail: str, retry_after_seconds: int) -> Response:
    return _answered(unavailable(title, detail, retry_after_seconds))


def _answered(refused: Refusal) -> Response:
    return problem_answer(refused.problem, refused.headers)


async def _failed(_: Request, error: Exception) -> Response:
    # The server logs the error: Starlette raises it again after this response.
    return problem_answer(HttpProblem(UNTYPED, "Internal error", 500))
