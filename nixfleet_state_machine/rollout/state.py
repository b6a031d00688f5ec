"""The record of one rollout. Frozen; `step_rollout` makes successors.

Source: docs/spec/rollout-machine.md, Record; docs/spec/rollout-machine.md, States.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Self, assert_never

from attrs import evolve, frozen

from nixfleet_proto.checked import WordEnum, checked
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import APPROVALS
from nixfleet_state_machine.rollout.guard_tally import GuardTally

RETENTION_DEFAULT = timedelta(hours=72)
BEFORE_FIRST_WAVE: Final = -1
"""The current wave of a rollout whose first wave has guards, until they are satisfied."""
RETENTION_MAX: Final = timedelta(days=90)
"""How long a Terminal rollout is kept for hosts that come late."""


class RolloutState(WordEnum):
    """Completes "the rollout is …". The values are the wire's."""

    OPENING = "Opening"
    ACTIVE = "Active"
    CONVERGING = "Converging"
    TERMINAL = "Terminal"
    REVERTED = "Reverted"
    FAILED = "Failed"
    ABORTED = "Aborted"
    SUPERSEDED = "Superseded"
    PRUNED = "Pruned"

    @property
    def is_served(self) -> bool:
        """Whether it dispatches hosts: a Terminal one those that come late."""
        return self.is_live or self is RolloutState.TERMINAL

    @property
    def is_terminal_for_ordering(self) -> bool:
        """Whether channels that wait for this rollout may proceed."""
        return self is RolloutState.TERMINAL or self is RolloutState.SUPERSEDED

    @property
    def is_halted(self) -> bool:
        """Whether it dispatches no host: until an operator clears it or, if it is Aborted, for good."""
        return self.is_clearable or self is RolloutState.ABORTED

    @property
    def is_clearable(self) -> bool:
        """Whether it is halted, and an operator may let it go on."""
        return self is RolloutState.REVERTED or self is RolloutState.FAILED

    @property
    def is_live(self) -> bool:
        """Whether the planner considers its hosts; those of a halted one get a reason."""
        match self:
            case RolloutState.TERMINAL | RolloutState.SUPERSEDED | RolloutState.PRUNED:
                return False
            case (
                RolloutState.OPENING
                | RolloutState.ACTIVE
                | RolloutState.CONVERGING
                | RolloutState.REVERTED
                | RolloutState.FAILED
                | RolloutState.ABORTED
            ):
                return True
            case _:
                assert_never(self)


class Standing(WordEnum):
    """How a host counts in its rollout; completes "the host is …". The values are the wire's.

    COUNTED: it counts by its state; every host without another standing. EXCUSED: for nothing, by an operator's word.
    SKIPPED: for nothing, since a host that it waits for does not come; it is served once that one does.
    AWAY: for nothing, LAPSED: as failed: it was silent past a deadline, and is served once it is heard of.
    LATE: for nothing, since its wave was done without it; it is served.
    LEFT: for nothing: the declaration does not have it any more.
    Source: docs/spec/policy.md, Standings.
    """

    COUNTED = "counted"
    EXCUSED = "excused"
    SKIPPED = "skipped"
    AWAY = "away"
    LAPSED = "lapsed"
    LATE = "late"
    LEFT = "left"

    @property
    def is_counted(self) -> bool:
        """Whether the host is part of its wave's count, by its state or as failed."""
        return self is Standing.COUNTED or self is Standing.LAPSED

    @property
    def is_silent(self) -> bool:
        """Whether the host was silent past a deadline: nothing is queued for it, and it takes no slot."""
        return self is Standing.AWAY or self is Standing.LAPSED

    @property
    def is_absent(self) -> bool:
        """Whether the host is missing from a wave that may still be waiting for it."""
        return self is Standing.AWAY or self is Standing.SKIPPED

    @property
    def is_given_back(self) -> bool:
        """Whether a fact of the host, which shows that it acts, changes the standing."""
        return self.is_silent or self is Standing.SKIPPED

    @property
    def is_served_late(self) -> bool:
        """Whether the host is served after its rollout is Terminal."""
        return self is Standing.LATE or self is Standing.SKIPPED


@frozen
@checked
class Drift:
    """A Converged host runs `running` instead of its target. since: when its heartbeats had shown that."""

    running: str
    since: datetime


NO_DRIFTS: Final[FrozenMap[str, Drift]] = FrozenMap()
NO_STANDINGS: Final[FrozenMap[str, Standing]] = FrozenMap()
NO_ATTEMPTS: Final[FrozenMap[str, int]] = FrozenMap()


@frozen
@checked
class RolloutRecord:
    """Everything that is known of one rollout as a whole.

    opened_event_log_seq, last_transition_event_log_seq: rows of the canonical log, set by who writes it.
    standings: of the hosts that are not counted as their state says. attempts: ordered, of the hosts that are to try
    again. broken_at: when a wave last failed beyond its tolerance. drifted: the hosts that run something else
    than they converged to. cleared_waves: those that an operator let be done though nobody came.
    current_wave: BEFORE_FIRST_WAVE while the guards of the first wave are open. guarded_since: from when the guards of
    the next wave are asked, since the current one is done; `None`: it is not, or the next one has none.
    guard_tallies: what was said of the guards of later waves, by wave and name. unsaid_at: after which time
    a statement on them has to be dated to be none of those that an operator let count no more.
    """

    rollout_id: RolloutId
    channel: str
    target_ref: str
    state: RolloutState
    current_wave: int
    opened_event_log_seq: int
    last_transition_event_log_seq: int
    opened_at: datetime
    terminal_at: datetime | None = None
    superseded_at: datetime | None = None
    retention: timedelta = RETENTION_DEFAULT
    standings: FrozenMap[str, Standing] = NO_STANDINGS
    attempts: FrozenMap[str, int] = NO_ATTEMPTS
    broken_at: datetime | None = None
    drifted: FrozenMap[str, Drift] = NO_DRIFTS
    cleared_waves: tuple[int, ...] = ()
    guarded_since: datetime | None = None
    guard_tallies: tuple[GuardTally, ...] = ()
    unsaid_at: datetime | None = None

    def is_approved_by(self, operator: str) -> bool:
        """Return whether `operator` has approved a wave that has not begun."""
        given = (each for each in self.guard_tallies if each.guard == APPROVALS)
        return any(operator in each.passed_by for each in given)

    def guard_tally(self, wave: int, guard: str) -> GuardTally | None:
        """Return what was said of a guard of a wave that has not begun; `None`: nothing yet."""
        found = (each for each in self.guard_tallies if (each.wave, each.guard) == (wave, guard))
        return next(found, None)

    def with_guard_tally(self, tally: GuardTally) -> Self:
        """Return the record in which this is what was said of that guard."""
        if self.guard_tally(tally.wave, tally.guard) == tally:
            return self
        key = tally.wave, tally.guard
        others = (each for each in self.guard_tallies if (each.wave, each.guard) != key)
        # In order, for equal records are to be written alike.
        in_order = sorted((*others, tally), key=lambda each: (each.wave, each.guard))
        return evolve(self, guard_tallies=tuple(in_order))

    def standing_of(self, hostname: str) -> Standing:
        """Return how the host counts."""
        return self.standings.get(hostname, Standing.COUNTED)

    def attempt_of(self, hostname: str) -> int:
        """Return the number of the last attempt that the host may make."""
        return self.attempts.get(hostname, 1)

    @property
    def excused_hosts(self) -> frozenset[str]:
        """The hosts that an operator took out of the count."""
        return frozenset(
            host for host, standing in self.standings.items() if standing is Standing.EXCUSED
        )

    def with_drift(self, hostname: str, drift: Drift | None) -> Self:
        """Return the record in which this host has drifted so, or has not. A drift that goes on keeps its `since`."""
        known = self.drifted.get(hostname)
        if known == drift or (known and drift and known.running == drift.running):
            return self
        changed = {host: each for host, each in self.drifted.items() if host != hostname}
        if drift is not None:
            changed[hostname] = drift
        return evolve(self, drifted=FrozenMap(sorted(changed.items())))

    def with_standings(self, hosts: Iterable[str], standing: Standing) -> Self:
        """Return the record in which these hosts have this standing."""
        changed = dict(self.standings)
        for host in hosts:
            if standing is Standing.COUNTED:
                changed.pop(host, None)
            else:
                changed[host] = standing
        if changed == self.standings:
            return self
        # In order, for equal records are to be written alike.
        return evolve(self, standings=FrozenMap(sorted(changed.items())))
