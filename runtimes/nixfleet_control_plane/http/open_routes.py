"""The routes that nobody has to be known for: health, readiness, figures.

Source: design 5.
"""

from collections.abc import Callable

from attrs import frozen
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from nixfleet_control_plane.http.answers import unavailable
from nixfleet_control_plane.http.metrics import Metrics


@frozen
class OpenRoutes:
    """What anybody can call."""

    not_ready_because: Callable[[], str | None]
    metrics: Metrics

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
