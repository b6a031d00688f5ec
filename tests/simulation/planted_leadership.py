"""Bugs of several control planes on one store, planted into the shell or the store, and the seed that finds each."""

from collections.abc import Callable, Sequence
from typing import Final

import pytest

from nixfleet_control_plane.leadership import decision
from nixfleet_control_plane.leadership.decision import Following, Leadership
from nixfleet_control_plane.leadership.lease import LeaseTerms
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_simulation.nodes.agenda import NodeLifetime
from nixfleet_simulation.nodes.leadership.fenced_writes import FencedWrites
from nixfleet_simulation.nodes.leadership.participant import Participant
from nixfleet_simulation.nodes.leadership.store_link import StoreUnreachable
from nixfleet_simulation.nodes.leadership.store_server import (
    Fence,
    Session,
    StoreRefused,
    StoreServer,
)

Plant = Callable[[pytest.MonkeyPatch], None]


def uses_the_doorbell_as_a_fence(patch: pytest.MonkeyPatch) -> None:
    """Whoever once held the session lock commits: the store compares no epoch."""

    def require(server: StoreServer, session: Session, fence: Fence) -> None:
        if session.is_over:
            raise StoreRefused

    patch.setattr(StoreServer, "require", require)


def answers_without_asking_whether_it_leads(patch: pytest.MonkeyPatch) -> None:
    """Polls are answered from memory, whatever has become of the lease."""
    patch.setattr(Participant, "is_current", lambda participant: participant.term is not None)


def answers_until_the_lease_ends(patch: pytest.MonkeyPatch) -> None:
    """There is no margin, so the slower of two clocks decides."""
    patch.setattr(LeaseTerms, "margin_seconds", 0.0)


def looks_at_the_lease_only_when_told(patch: pytest.MonkeyPatch) -> None:
    """A standby trusts notifications and the doorbell: nobody rings for a leader that stands still."""
    next_due = decision.next_due

    def only_when_rung(leadership: Leadership, now: float, terms: LeaseTerms) -> float | None:
        if isinstance(leadership, Following) and leadership.seen is not None:
            return None if leadership.rung_at is None else now + terms.rung_look_seconds
        return next_due(leadership, now, terms)

    patch.setattr(decision, "next_due", only_when_rung)


def takes_a_lost_answer_as_failed(patch: pytest.MonkeyPatch) -> None:
    """A commit without an answer is rolled back and made again, and may be durable already."""

    def settle(
        writes: FencedWrites,
        life: NodeLifetime,
        then: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        failed(StoreUnreachable())

    patch.setattr(FencedWrites, "settle", settle)


def takes_a_lost_answer_as_done(patch: pytest.MonkeyPatch) -> None:
    """A commit without an answer is acknowledged, and may never have reached the store."""

    def settle(
        writes: FencedWrites,
        life: NodeLifetime,
        then: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        then()

    patch.setattr(FencedWrites, "settle", settle)


def reads_the_head_without_raising_its_epoch(patch: pytest.MonkeyPatch) -> None:
    """The log is read after a lost answer; the commit is still on its way, and becomes durable after that."""

    def raise_own_epoch(server: StoreServer, session: Session) -> Fence:
        if server._holder != session.process:
            raise StoreRefused
        server._renew_lease()
        return Fence(server._epoch, server._commits)

    patch.setattr(StoreServer, "raise_own_epoch", raise_own_epoch)


def reads_the_log_only_when_told(patch: pytest.MonkeyPatch) -> None:
    """A standby trusts notifications: it serves without the rows that it was not told of."""
    told: dict[Participant, int] = {}
    grown, fold = Participant._grown, Participant._fold

    def noting(participant: Participant) -> None:
        told[participant] = len(participant._server._rows)
        grown(participant)

    def folding(participant: Participant, rows: Sequence[LogRow]) -> None:
        known = told.get(participant, 0)
        fold(participant, [row for row in rows if row.seq <= known])

    patch.setattr(Participant, "_grown", noting)
    patch.setattr(Participant, "_fold", folding)


PLANTED: Final[tuple[tuple[Plant, int], ...]] = (
    (uses_the_doorbell_as_a_fence, 1),
    (answers_without_asking_whether_it_leads, 1),
    (answers_until_the_lease_ends, 5),
    (looks_at_the_lease_only_when_told, 1),
    (takes_a_lost_answer_as_failed, 9),
    (takes_a_lost_answer_as_done, 2),
    (reads_the_head_without_raising_its_epoch, 29),
    (reads_the_log_only_when_told, 1),
)
