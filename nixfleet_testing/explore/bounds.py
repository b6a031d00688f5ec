"""The bounds of a world: how many hosts, waves and releases, which times, names and terms, and what may happen.

Times are abstract. Nothing compares the times of two hosts, and of those of one host in one rollout only four
matter: when it was dispatched, when it acknowledged, when its soak is due, when it converged. So each has a clock
of its own that starts with its first dispatch; whatever is dispatched again, is so after an acknowledgement of
the first; and a host converges at the very moment its soak is due, which is the earliest it may.

Deadlines and back-off are the time of one host too: "its time passes" is a move of its own, which is possible as long
as the host is at a stage with a deadline, or waits for another attempt.
"""

from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final

from attrs import frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import Edge, OnDrift, Ramp, Selector
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import (
    AtDeadline,
    Deadline,
    Deadlines,
    Retry,
    RolloutPolicy,
)
from nixfleet_proto.steering.guards import Approvals, Check, WaveGuards
from nixfleet_state_machine.planner.terms import BudgetTerms, RolloutTerms
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_testing.course.amended import without_host

CHANNEL = "stable"
BY_HAND = "by-hand"
BASE_CLOSURE = "base"
RELEASES = ("one", "two", "three")
PROBE = "http"
BUDGET = "all"
"""The name of the budget, if there is one."""

SOAK_MINUTES = 60
DISPATCHED_AT = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
ACKNOWLEDGED_AFTER = timedelta(minutes=5)
DISPATCHED_AGAIN_AT = DISPATCHED_AT + timedelta(minutes=10)
LIVED_AT = DISPATCHED_AT + timedelta(minutes=20)
DEADLINE_MINUTES = 60
PASSED_AT = DISPATCHED_AT + timedelta(days=30)
"""Later than every deadline and every back-off."""


APPROVALS: Final = Approvals(1, ("ada", "bob"))
CHECK: Final = Check("errors", "prometheus", "up", "== 1", passes=2)
BAKE_MINUTES: Final = 60


@frozen
class Bounds:
    """One bounded world: a channel, its hosts in waves, and what may happen to them.

    releases: how many are published, each superseding the one before. probe_runs: how often the one enforce probe
    of a host reports, 0 for a host without probes. on_the_way: how many facts of a host the control plane may be
    behind; `None`: all of them. budget: hosts in flight at once. ramp: its first slots, and their factor.
    per_minute: beginnings under it until a minute passes. deferral: a switch may have to wait for a reboot.
    edges: each host waits for the one before it in its wave. own_closures: each host has one of its own.
    pause, clear, retire, abort: what operators may do, at any time and as often as it applies.
    tolerance: hosts of each wave that may fail. deadline: the one stage that has a deadline, and `then` what follows.
    attempts: how often a host may try. on_drift: heartbeats may show that a Converged host runs something else, and
    what follows; `None`: none does. leaver: the last host of the first wave may leave and join again, at any time and
    as often as it likes. timed: each wave has a time before which it does not begin.
    guarded: each wave needs the approval of one of two operators, who may deny it. bakes: the wave before each must
    have been done for some time. checked: a judge must pass each wave twice in a row, and no failure is allowed.
    every_fact: also facts that change no state (ActivationStarted, ProbeObservedFirst, ProbeFailureFirst).
    """

    hosts: int = 3
    waves: int = 2
    policy: OnHealthFailure = OnHealthFailure.ROLLBACK_AND_HALT
    releases: int = 1
    probe_runs: int = 1
    on_the_way: int | None = None
    budget: int | None = None
    edges: bool = False
    own_closures: bool = False
    deferral: bool = False
    pause: bool = False
    clear: bool = False
    retire: bool = False
    abort: bool = False
    every_fact: bool = False
    tolerance: int = 0
    deadline: Stage | None = None
    then: AtDeadline = AtDeadline.SKIP
    attempts: int = 1
    on_drift: OnDrift | None = None
    leaver: bool = False
    timed: bool = False
    ramp: tuple[int, int] | None = None
    per_minute: int | None = None
    guarded: bool = False
    bakes: bool = False
    checked: bool = False

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.waves <= self.hosts:
            raise ValueError(f"expected 1 to {self.hosts} waves, found {self.waves}")
        if not 1 <= self.releases <= len(RELEASES):
            raise ValueError(f"expected 1 to {len(RELEASES)} releases, found {self.releases}")
        if self.leaver and (self.releases > 1 or self.leaver_place == 0):
            raise ValueError(
                "expected one release, and another host in the wave of one that leaves"
            )

    @cached_property
    def rollout_policy(self) -> RolloutPolicy:
        return RolloutPolicy(
            self.policy,
            max_failures=self.tolerance or None,
            deadlines=self._deadlines,
            retry=Retry(self.attempts),
        )

    @cached_property
    def guards(self) -> WaveGuards:
        """What must have happened before each wave begins."""
        return WaveGuards(
            bake_minutes=BAKE_MINUTES if self.bakes else 0,
            approvals=APPROVALS if self.guarded else None,
            checks=(CHECK,) if self.checked else (),
        )

    @property
    def _deadlines(self) -> Deadlines:
        if self.deadline is None:
            return Deadlines()
        return Deadlines(**{self.deadline.value: Deadline(DEADLINE_MINUTES, self.then)})

    @cached_property
    def hostnames(self) -> tuple[str, ...]:
        return tuple(f"web-{number}" for number in range(1, self.hosts + 1))

    @cached_property
    def wave_of(self) -> tuple[int, ...]:
        """The wave of each host. The waves are as even as can be, the earlier ones the larger."""
        return tuple(place * self.waves // self.hosts for place in range(self.hosts))

    @cached_property
    def terms(self) -> tuple[RolloutTerms, ...]:
        """What each release's rollout runs under."""
        return tuple(map(self._terms, RELEASES[: self.releases]))

    @cached_property
    def terms_without_leaver(self) -> RolloutTerms:
        """The terms of the only release once a host left."""
        return without_host(self.terms[0], self.hostnames[self.leaver_place])

    @cached_property
    def leaver_place(self) -> int:
        """The place of the host that may leave."""
        return self.wave_of.count(0) - 1

    @property
    def attempts_most(self) -> int:
        """How many attempts a host may have made at most: of one that drifted, one is ordered beyond those declared."""
        return self.attempts + (self.on_drift is OnDrift.RESTORE)

    def _terms(self, release: str) -> RolloutTerms:
        return RolloutTerms(
            rollout_id=RolloutId.of(CHANNEL, release),
            channel=CHANNEL,
            target_ref=release,
            targets=FrozenMap({host: self._closure(release, host) for host in self.hostnames}),
            wave_of=FrozenMap(zip(self.hostnames, self.wave_of, strict=True)),
            wave_soak_minutes=(SOAK_MINUTES,) * self.waves,
            budgets=self._budgets(),
            host_edges=self._edges(),
            predecessors=(),
            wave_tolerances=(self.rollout_policy.tolerance,) * self.waves if self.tolerance else (),
            deadlines=self._deadlines,
            retry=Retry(self.attempts),
            on_drift=self.on_drift or OnDrift.REPORT,
            wave_guards=(self.guards,) * self.waves if self.guards.is_declared else (),
        )

    def _closure(self, release: str, host: str) -> str:
        return f"closure-{release}-{host}" if self.own_closures else f"closure-{release}"

    @cached_property
    def twins(self) -> tuple[int, ...]:
        """The hosts that are interchangeable with the one before them: those of one wave.

        Not where names make a difference: slots of a budget go by name, edges and own closures are between names.
        """
        if self.has_budget or self.edges or self.own_closures:
            return ()
        leaver = (self.leaver_place,) if self.leaver else ()
        return tuple(host for host in self._not_first_of_wave if host not in leaver)

    @property
    def _not_first_of_wave(self) -> tuple[int, ...]:
        wave_of = self.wave_of
        return tuple(host for host in range(1, self.hosts) if wave_of[host] == wave_of[host - 1])

    def _edges(self) -> tuple[Edge, ...]:
        names = self.hostnames
        pairs = ((names[host - 1], names[host]) for host in self._not_first_of_wave)
        return tuple(Edge(gates, gated) for gates, gated in pairs) if self.edges else ()

    def _budgets(self) -> tuple[BudgetTerms, ...]:
        if not self.has_budget:
            return ()
        ramp = None if self.ramp is None else Ramp(*self.ramp)
        members = frozenset(self.hostnames)
        return (BudgetTerms(Selector(all=True), members, self.limit, ramp, self.per_minute),)

    @property
    def has_budget(self) -> bool:
        """Whether the hosts share a budget."""
        return (self.budget, self.ramp, self.per_minute) != (None, None, None)

    @property
    def limit(self) -> int:
        """How many hosts may be in flight at once."""
        return self.hosts if self.budget is None else self.budget
