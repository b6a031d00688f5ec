"""The application of a process that shares its store: the leader's while it leads, and what a standby answers.

What was asked while this process led is not answered from memory once it may not: a page that was made before another
one took over would be old news. What is in the log is an answer at any time; so only reads are held back here, and the
service sees to everything that goes through the engine.
Source: docs/spec/leadership.md, What a leader may answer; docs/spec/wire.md, Standbys.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Final, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

import nixfleet
from nixfleet_control_plane.http.answers import Refusal, problem_answer, standing_by
from nixfleet_control_plane.http.app import ALL_CALLS, make_open_app
from nixfleet_control_plane.http.metrics import Metrics
from nixfleet_control_plane.http.openapi import openapi_document
from nixfleet_control_plane.http.routes.open import OpenRoutes
from nixfleet_control_plane.leadership.decision import (
    Ended,
    Fenced,
    Following,
    HandingOver,
    Leadership,
    Leading,
    TakingOver,
)
from nixfleet_runtime.http import paths
from nixfleet_runtime.kernel.visible import visible

_ALWAYS: Final = frozenset({"/healthz", "/metrics", paths.OPENAPI})
"""What says nothing of the fleet, or of this process alone."""
_READS: Final = frozenset({"GET", "HEAD"})


class TakesPart(Protocol):
    """What is asked of a `Participant`."""

    @property
    def leadership(self) -> Leadership:
        """Where it stands."""
        ...

    @property
    def epoch(self) -> int:
        """The epoch of the lease, as it saw it last."""
        ...

    @property
    def leader_url(self) -> str:
        """The URL of who leads; empty if it is not known."""
        ...

    @property
    def terms_begun(self) -> int:
        """How often it has begun to lead."""
        ...

    def may_answer(self) -> bool:
        """Return whether what is in memory is what the store has."""
        ...


class Front:
    """An ASGI application. versions: lines of `/healthz`. participant: is set before the first request."""

    participant: TakesPart

    def __init__(self, versions: tuple[str, ...]) -> None:
        self._term: tuple[ASGIApp, Callable[[], bool]] | None = None
        self._metrics = Metrics()
        self.count_refusal: Callable[[str], None] = self._metrics.count_refusal
        self._standby = make_open_app(
            OpenRoutes(
                self.standing,
                lambda: None,
                tuple,
                self._metrics,
                cache(partial(openapi_document, ALL_CALLS)),
                versions,
                lambda: (self.standing(),),
            ),
            self.refusal,
        )
        program = nixfleet.__version__
        self._metrics.gauge_by(
            "nixfleet_program", "1, by the version of the program", "version", lambda: {program: 1}
        )
        self.register(self._metrics)

    def register(self, metrics: Metrics) -> None:
        """Register the gauges of leadership."""
        register_leadership_gauges(metrics, lambda: self.participant)

    def standing(self) -> str:
        """Return in words what this process does, instead of leading."""
        leadership = self.participant.leadership
        match leadership:
            case Following() if not leadership.is_warm:
                return "standby, reading the log"
            case Following():
                leader = visible(self.participant.leader_url)
                return f"standby of {leader}" if leader else "standby; no leader is known"
            case TakingOver():
                return "taking over"
            case Leading():
                return "leader, without contact to the store"
            case HandingOver():
                return "handing over"
            case Fenced():
                return "replaced, about to follow"
            case Ended():
                return "shutting down"

    def refusal(self) -> Refusal:
        """Return the answer to what is asked of this process while it does not lead."""
        return standing_by(self.standing(), self.participant.leader_url)

    @contextmanager
    def serving(
        self, app: ASGIApp, is_current: Callable[[], bool], count_refusal: Callable[[str], None]
    ) -> Iterator[None]:
        """Let `app` answer while the context is open, whenever `is_current`."""
        self._term, self.count_refusal = (app, is_current), count_refusal
        try:
            yield
        finally:
            self._term, self.count_refusal = None, self._metrics.count_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        term = self._term
        if term is None or scope["type"] != "http":
            await self._standby(scope, receive, send)
            return
        app, is_current = term
        if scope["path"] in _ALWAYS:
            await app(scope, receive, send)
        elif not is_current():
            await self._standby(scope, receive, send)
        elif scope["method"] in _READS:
            await app(scope, receive, _HeldBack(self, scope, receive, send, is_current))
        else:
            await app(scope, receive, send)


class _HeldBack:
    """Sends an answer if this process may still answer when it begins, and otherwise that of a standby."""

    def __init__(
        self,
        front: Front,
        scope: Scope,
        receive: Receive,
        send: Send,
        is_current: Callable[[], bool],
    ) -> None:
        self._front = front
        self._scope = scope
        self._receive = receive
        self._send = send
        self._is_current = is_current
        self._is_dropped = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._is_current():
            self._is_dropped = True
            refusal = self._front.refusal()
            answer = problem_answer(refusal.problem, refusal.headers)
            await answer(self._scope, self._receive, self._send)
        elif not self._is_dropped:
            await self._send(message)


def register_leadership_gauges(metrics: Metrics, participant: Callable[[], TakesPart]) -> None:
    """Register who leads, as one process of a shared store sees it."""
    metrics.gauge(
        "nixfleet_leader",
        "1 while this control plane leads, and may answer",
        lambda: float(participant().may_answer()),
    )
    metrics.gauge(
        "nixfleet_leader_epoch",
        "the epoch of the lease, as this control plane saw it last",
        lambda: participant().epoch,
    )
    metrics.gauge(
        "nixfleet_takeovers",
        "how often this process has begun to lead",
        lambda: participant().terms_begun,
    )
