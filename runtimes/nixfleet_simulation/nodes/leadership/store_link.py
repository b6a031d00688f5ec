"""The way between one process and the store: requests and answers take time, are lost, or arrive when a cut is over.

A caller learns of that only by waiting. What it sent may become durable all the same, also after it stopped waiting.
As over TCP, what follows a request without an answer needs another connection, and none can be made through a cut. So
one whose answers are lost does not renew its lease for ever.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from nixfleet_proto.errors import NixfleetError
from nixfleet_simulation.nodes.agenda import SECOND, Agenda, NodeLifetime
from nixfleet_simulation.nodes.disk import DiskFull
from nixfleet_simulation.nodes.leadership.process_timeline import ProcessTimeline
from nixfleet_simulation.nodes.leadership.store_server import StoreRefused, StoreServer
from nixfleet_simulation.scenario.leadership_acts import Way
from nixfleet_simulation.scenario.randomness import Random

ResultT = TypeVar("ResultT")

ANSWER_SECONDS_MAX: Final = 1.0
_LATENCY: Final = (200, 3_000)
_CONNECTING: Final = 200_000
_ARRIVES_LATE: Final = 0.5
_LATER: Final = (0, 200_000)


class StoreUnreachable(NixfleetError):
    """There is no answer: what was asked was done, or not, or will be."""


class StoreLink:
    """One process's way to the store. cuts: in force, with the time at which each ends."""

    def __init__(
        self, agenda: Agenda, timeline: ProcessTimeline, rng: Random, server: StoreServer
    ) -> None:
        self.cuts: list[tuple[Way, int]] = []
        self._is_broken = False
        self._agenda = agenda
        self._timeline = timeline
        self._rng = rng
        self._server = server

    @property
    def is_cut(self) -> bool:
        """Whether anything may be lost now."""
        return self._cut_until((Way.BOTH, Way.TO_STORE, Way.FROM_STORE)) is not None

    def ask(
        self,
        life: NodeLifetime,
        statement: Callable[[], ResultT],
        then: Callable[[ResultT], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Have `statement` carried out at the server; one of `then` and `failed` is called, unless `life` is over.

        failed: with what the server raised, or with StoreUnreachable.
        """
        waiting = NodeLifetime()
        if self._is_broken and self.is_cut:
            self._timeline.after(_CONNECTING, life, failed, StoreUnreachable())
            return
        limit = int(ANSWER_SECONDS_MAX * SECOND)
        no_answer = partial(self._end, life, waiting, partial(self._break, failed))
        self._timeline.after(limit, life, no_answer)

        def arrive() -> None:
            if not self._server.is_up:
                answer = partial(failed, StoreUnreachable())
            else:
                try:
                    answer = partial(then, statement())
                except (StoreRefused, DiskFull) as error:
                    answer = partial(failed, error)
            self._send(
                (Way.BOTH, Way.FROM_STORE),
                partial(self._receive, life, waiting, partial(self._works, answer)),
            )

        self._send((Way.BOTH, Way.TO_STORE), arrive)

    def _break(self, failed: Callable[[Exception], None]) -> None:
        self._is_broken = True
        failed(StoreUnreachable())

    def _works(self, answer: Callable[[], None]) -> None:
        self._is_broken = False
        answer()

    def tell(self, life: NodeLifetime, what: Callable[[], None]) -> None:
        """Have the server tell the process something, which may get lost."""
        self._send((Way.BOTH, Way.FROM_STORE), partial(self._timeline.happen, life, what))

    def _receive(
        self, life: NodeLifetime, waiting: NodeLifetime, answer: Callable[[], None]
    ) -> None:
        self._timeline.happen(life, partial(self._end, life, waiting, answer))

    def _end(self, life: NodeLifetime, waiting: NodeLifetime, outcome: Callable[[], None]) -> None:
        if not waiting.is_over and not life.is_over:
            waiting.is_over = True
            outcome()

    def _send(self, ways: tuple[Way, ...], arrive: Callable[[], None]) -> None:
        delay, until = self._rng.randint(*_LATENCY), self._cut_until(ways)
        if until is not None:
            if self._rng.random() >= _ARRIVES_LATE:
                return
            delay += until - self._agenda.now + self._rng.randint(*_LATER)
        self._agenda.after(delay, None, arrive)

    def _cut_until(self, ways: tuple[Way, ...]) -> int | None:
        now = self._agenda.now
        self.cuts = [cut for cut in self.cuts if cut[1] > now]
        return max((until for way, until in self.cuts if way in ways), default=None)
