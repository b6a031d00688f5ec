"""The parts of a world, as frozen values: each agent's facts, and those that the control plane has received.

No host has a name in here, only a place: a part that two hosts have in common is one value. Facts on the way are
not kept: they are an agent's facts that its mirror has not received, by their numbers.
"""

from typing import TypeAlias

from attrs import evolve, frozen

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_state_machine.host.effect import LocalFireRollbackTo, LocalFireSwitch
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing
from nixfleet_testing.explore.bounds import BASE_CLOSURE

NAMELESS = "host"

Intent: TypeAlias = LocalFireSwitch | LocalFireRollbackTo


@frozen
class AgentPast:
    """One rollout on one host. records: as opened, then after each fact.

    is_closed: a newer rollout took over; nothing happens in this one any more.
    """

    records: tuple[HostRolloutState, ...]
    facts: tuple[AgentEvent, ...] = ()
    is_closed: bool = False

    @property
    def record(self) -> HostRolloutState:
        return self.records[-1]


@frozen
class Agent:
    """One host. lives: by release, `None` where it took no dispatch. intent: the act under way."""

    lives: tuple[AgentPast | None, ...]
    running: str = BASE_CLOSURE
    intent: Intent | None = None

    @property
    def open_release(self) -> int | None:
        """The release whose rollout the host works on."""
        open_lives = (
            release
            for release, life in enumerate(self.lives)
            if life is not None and not life.is_closed
        )
        return next(open_lives, None)


@frozen
class Seat:
    """One host in one rollout, as the control plane has it. attempt: the last one that it may make.

    has_drifted: it was found to run something else than it converged to.
    """

    record: HostRolloutState
    is_queued: bool = False
    standing: Standing = Standing.COUNTED
    attempt: int = 1
    has_drifted: bool = False

    @property
    def needs_dispatch(self) -> bool:
        """Whether the host did not acknowledge the last attempt that it may make."""
        if self.record.state is HostState.PENDING:
            return self.record.last_event_seq == 0
        return self.attempt > self.record.attempt and self.record.may_try_again


Seats: TypeAlias = tuple[Seat, ...]
"""The seats of one host, by release."""


@frozen
class ControlPlane:
    """All that the control plane knows. Standings and attempts are in the seats, not in the rollout records.

    rollouts: by release, as many as were opened. seats: by host. begun: the waves whose time has come.
    in_minute: the beginnings that take a slot of a minute.
    """

    seats: tuple[Seats, ...]
    rollouts: tuple[RolloutRecord, ...] = ()
    quarantined: frozenset[str] = frozenset()
    is_paused: bool = False
    begun: int = 0
    in_minute: int = 0

    def swapped(self, one: int, other: int) -> "ControlPlane":
        """Return the same with two hosts in each other's place."""
        seats = list(self.seats)
        seats[one], seats[other] = seats[other], seats[one]
        return evolve(self, seats=tuple(seats))
