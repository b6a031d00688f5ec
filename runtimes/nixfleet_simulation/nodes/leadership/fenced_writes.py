"""The storage of a control plane that leads: commits under a fence, and lost answers that are settled.

A commit without an answer is neither done nor failed: the own epoch is raised first, so that it cannot become durable
any more, and the store says whether it did. Source: docs/spec/leadership.md; `nixfleet_postgres` does the same.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.writes import Write
from nixfleet_simulation.nodes.agenda import SECOND, NodeLifetime
from nixfleet_simulation.nodes.disk import DiskFull
from nixfleet_simulation.nodes.leadership.process_timeline import ProcessTimeline
from nixfleet_simulation.nodes.leadership.store_link import StoreLink, StoreUnreachable
from nixfleet_simulation.nodes.leadership.store_server import (
    Fence,
    Session,
    StoreRefused,
    StoreServer,
)

SETTLE_AGAIN_SECONDS: Final = 0.1


class FencedWrites:
    """Implements `Storage`, for one term. state: the folded one."""

    def __init__(
        self,
        timeline: ProcessTimeline,
        link: StoreLink,
        server: StoreServer,
        session: Callable[[], Session],
        fence: Fence,
        state: State,
        monotonic: Callable[[], float],
        renewed: Callable[[float], None],
        replaced: Callable[[], None],
    ) -> None:
        self._timeline = timeline
        self._link = link
        self._server = server
        self._session = session
        self._fence = fence
        self._state = state
        self._monotonic = monotonic
        self._renewed = renewed
        self._replaced = replaced

    def load(self) -> State:
        """Return the folded state: nothing is read again."""
        return self._state

    def cut_off(self, *, write_survives: bool) -> None:
        """Do nothing: what was sent arrives, whoever sent it."""

    def write(
        self,
        life: NodeLifetime,
        writes: tuple[Write, ...],
        keep: Callable[[], None],
        then: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """As `Storage.write`."""
        sent_at, fence, session = self._monotonic(), self._fence, self._session()

        def done(_: None) -> None:
            self._fence = Fence(fence.epoch, fence.commits + 1)
            self._renewed(sent_at)
            then()

        def not_done(error: Exception) -> None:
            match error:
                case DiskFull():
                    failed(error)
                case StoreUnreachable():
                    self.settle(life, then, failed)
                case _:
                    self._refused(failed)

        commit = partial(self._server.commit, session, fence, writes, keep)
        self._link.ask(life, commit, done, not_done)

    def settle(
        self, life: NodeLifetime, then: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        """Find out what became of the last commit, for as long as it takes."""
        sent_at = self._monotonic()

        def raised(fence: Fence) -> None:
            is_durable = fence.commits > self._fence.commits
            self._fence = fence
            self._renewed(sent_at)
            if is_durable:
                then()
            else:
                failed(StoreUnreachable())

        def not_raised(error: Exception) -> None:
            match error:
                case StoreRefused():
                    self._refused(failed)
                case _:
                    again = int(SETTLE_AGAIN_SECONDS * SECOND)
                    self._timeline.after(again, life, self.settle, life, then, failed)

        raise_own = partial(self._server.raise_own_epoch, self._session())
        self._link.ask(life, raise_own, raised, not_raised)

    def _refused(self, failed: Callable[[Exception], None]) -> None:
        self._replaced()
        failed(StoreRefused())
