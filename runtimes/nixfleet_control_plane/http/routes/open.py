"""The routes without authentication: health, readiness, metrics, and the OpenAPI document.

Source: docs/spec/wire.md, Open calls.
"""

from collections.abc import Callable
from typing import Final

from attrs import frozen
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from nixfleet_control_plane.http.answers import bytes_answer, unavailable
from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.http.metrics import Metrics
from nixfleet_runtime.http import paths


@frozen
class OpenRoutes:
    """The calls without authentication."""

    not_ready_because: Callable[[], str | None]
    clock_problem: Callable[[], str | None]
    readiness_detail: Callable[[], tuple[str, ...]]
    metrics: Metrics
    document: Callable[[], bytes]
    versions: tuple[str, ...]
    health_detail: Callable[[], tuple[str, ...]] = tuple

    async def healthz(self, request: Request) -> Response:
        """200 while the process answers.

        The lines after the first name the versions of the program and of its database, and how old rows are dropped.
        """
        return PlainTextResponse("\n".join(("ok", *self.versions, *self.health_detail())))

    async def readyz(self, request: Request) -> Response:
        """200 once a release has been verified; 503 before that, and while shutting down.

        A second line says that nobody's time agrees with the server's, while that is so.
        """
        problem = self.not_ready_because()
        if problem is not None:
            raise unavailable("Not ready", problem, retry_after_seconds=5)
        # Not a reason to be unready: strangers, whose signatures nobody checks, could take the server out of service.
        clock_problem = self.clock_problem()
        lines = [
            "ready",
            *([] if clock_problem is None else [clock_problem]),
            *self.readiness_detail(),
        ]
        return PlainTextResponse("\n".join(lines))

    async def show_metrics(self, request: Request) -> Response:
        """200 with all metrics in Prometheus' text format."""
        return Response(self.metrics.exposition(), media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        """200 with this document."""
        return bytes_answer(self.document(), "application/json")


OPEN_CALLS: Final[tuple[Call[OpenRoutes], ...]] = (
    Call(
        "GET",
        "/healthz",
        OpenRoutes.healthz,
        Caller.ANYBODY,
        (Answer(200, "the process answers", "text/plain"),),
    ),
    Call(
        "GET",
        "/readyz",
        OpenRoutes.readyz,
        Caller.ANYBODY,
        (Answer(200, "ready", "text/plain"), Answer(503, "not ready; the detail says why")),
    ),
    Call(
        "GET",
        "/metrics",
        OpenRoutes.show_metrics,
        Caller.ANYBODY,
        (Answer(200, "all metrics", "text/plain"),),
    ),
    Call(
        "GET",
        paths.OPENAPI,
        OpenRoutes.openapi,
        Caller.ANYBODY,
        (Answer(200, "OpenAPI 3.1", "application/json"),),
    ),
)
