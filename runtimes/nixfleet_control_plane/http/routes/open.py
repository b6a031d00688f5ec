"""The routes that nobody has to be known for: health, readiness, figures.

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
    """What anybody can call."""

    not_ready_because: Callable[[], str | None]
    metrics: Metrics
    document: Callable[[], bytes]

    async def healthz(self, request: Request) -> Response:
        """200 as long as the process answers."""
        return PlainTextResponse("ok")

    async def readyz(self, request: Request) -> Response:
        """200 once manifests are verified and the queue is open, 503 before and while shutting down."""
        problem = self.not_ready_because()
        if problem is not None:
            raise unavailable("Not ready", problem, retry_after_seconds=5)
        return PlainTextResponse("ready")

    async def show_metrics(self, request: Request) -> Response:
        """200 with all figures in Prometheus' text format."""
        return Response(self.metrics.shown(), media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        """200 with this document."""
        return bytes_answer(self.document(), "application/json")


OPEN_CALLS: Final[tuple[Call[OpenRoutes], ...]] = (
    Call(
        "GET",
        "/healthz",
        OpenRoutes.healthz,
        Caller.ANYBODY,
        (Answer(200, "it does", "text/plain"),),
    ),
    Call(
        "GET",
        "/readyz",
        OpenRoutes.readyz,
        Caller.ANYBODY,
        (Answer(200, "it is", "text/plain"), Answer(503, "why it is not")),
    ),
    Call(
        "GET",
        "/metrics",
        OpenRoutes.show_metrics,
        Caller.ANYBODY,
        (Answer(200, "all figures", "text/plain"),),
    ),
    Call(
        "GET",
        paths.OPENAPI,
        OpenRoutes.openapi,
        Caller.ANYBODY,
        (Answer(200, "OpenAPI 3.1", "application/json"),),
    ),
)
