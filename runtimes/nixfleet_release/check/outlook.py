"""What a rollout can cost at worst, of a declaration or of a resolved fleet, before anything starts. Pure.

The planner's own functions compute it; here the terms that they need are made of what is not released yet.
Source: docs/spec/policy.md, Slots; docs/spec/policy.md, Blast radius.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from attrs import evolve, frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import FleetHost, FleetResolved, Selector, Wave
from nixfleet_proto.manifest import ManifestBudget
from nixfleet_proto.policy import RolloutPolicy, Tolerance
from nixfleet_release.check.staging import released_policy, released_waves, smallest_waves, stage
from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import at
from nixfleet_state_machine.planner.blast_radius import BudgetWedge, budget_wedges, worst_failed
from nixfleet_state_machine.planner.terms import BudgetTerms, RolloutTerms
from nixfleet_state_machine.scopes.expression import meant
from nixfleet_state_machine.scopes.selector import enabled_hosts, select

_ROLLOUT: Final = "any@any"  # what it is called decides nothing


@frozen
class BlastRadius:
    """How many of a rollout's hosts may have failed at worst when it halts or is done, and nobody cleared it.

    tolerated: of the worst, those after which the waves go on; the others were in flight when it halted.
    """

    hosts: int
    worst: int
    tolerated: int

    @property
    def in_flight(self) -> int:
        """Of the worst, those that were in flight when the rollout halted."""
        return self.worst - self.tolerated

    def __str__(self) -> str:
        hosts = f"{self.hosts} host{'' if self.hosts == 1 else 's'}"
        return f"at worst {self.worst} of {hosts}: {self.tolerated} tolerated + {self.in_flight} in flight"


@frozen
class Course:
    """The waves of one channel, and the policy that they follow.

    policy_path, wave_paths: where both are declared, or words for a rest that is implied. smallest: the fewest hosts
    that each wave may have, whatever ref is released.
    """

    channel: str
    policy: RolloutPolicy
    waves: tuple[Wave, ...]
    policy_path: str
    wave_paths: tuple[str, ...]
    smallest: tuple[int, ...]

    def tolerance_of(self, wave: int) -> Tolerance:
        """Return the tolerance of a wave: its own, or that of the policy."""
        return self.policy.tolerance_of(self.waves[wave].tolerance)

    def allowed_in(self, wave: int) -> int:
        """Return how many hosts of a wave may fail."""
        return self.tolerance_of(wave).allowed(len(self.waves[wave].hosts))


@frozen
class Slots:
    """The slots of a budget: at most `limit` of `hosts` are in flight at once. path: where the budget is declared."""

    hosts: frozenset[str]
    limit: int
    path: str


def blast_radius(terms: RolloutTerms, on_failure: OnHealthFailure) -> BlastRadius:
    """Return the blast radius of a rollout."""
    worst = worst_failed(terms, on_failure)
    waves = range(len(terms.wave_soak_minutes))
    # A wave in which nobody succeeds is not done.
    tolerated = sum(
        min(terms.allowed_failures(wave), max(0, terms.wave_sizes[wave] - 1)) for wave in waves
    )
    return BlastRadius(len(terms.targets), worst, min(worst, tolerated))


def blast_radius_of(course: Course, budgets: Iterable[Slots]) -> BlastRadius:
    """Return the blast radius of the rollouts of a channel. budgets: all of the fleet."""
    return blast_radius(_terms([course], budgets), course.policy.on_health_failure)


def wedge_of(courses: Iterable[Course], budget: Slots) -> BudgetWedge | None:
    """Return how the hosts that may fail can fill a budget, so that its other members wait for ever; `None`: never.

    courses: those of all channels, which share the slots of a budget. Channels that roll back give them back.
    """
    halting = [
        course if course.policy.on_health_failure is OnHealthFailure.HALT else _intolerant(course)
        for course in courses
    ]
    return next(iter(budget_wedges(_terms(halting, [budget]), OnHealthFailure.HALT)), None)


def course_of(fleet: FleetDeclaration, channel: str, ref: str = "") -> Course:
    """Return the course of a declared channel with its hosts; every wave has its place, also one without hosts.

    Raises: KeyError, for a channel without a policy.
    """
    name = fleet.channels[channel].rollout_policy
    declared, hosts = fleet.policies[name], fleet.enabled_hosts_of(channel)
    path = at("policies", name)
    waves = released_waves(declared, stage(declared, hosts, ref))
    return Course(
        channel,
        released_policy(declared),
        waves,
        path,
        tuple(
            at(at(path, "waves"), index) if index < len(declared.waves) else f"the rest of {path}"
            for index in range(len(waves))
        ),
        smallest_waves(declared, hosts),
    )


def courses_of(fleet: FleetResolved) -> Iterator[Course]:
    """Yield the courses of the channels of a resolved fleet that release something; paths are as in a declaration."""
    enabled = enabled_hosts(fleet.hosts, fleet.channels)
    for name, channel in sorted(fleet.channels.items()):
        hosts = _with_closure(enabled, name)
        policy = fleet.rollout_policies.get(channel.rollout_policy)
        if policy is None or not hosts:
            continue
        declared = fleet.waves.get(name) or (Wave(tuple(sorted(hosts))),)
        waves = tuple(
            evolve(wave, hosts=tuple(host for host in wave.hosts if host in hosts))
            for wave in declared
        )
        path = at("waves", name)
        yield Course(
            name,
            policy,
            waves,
            at("policies", channel.rollout_policy),
            tuple(at(path, index) for index in range(len(waves))),
            tuple(len(wave.hosts) for wave in waves),
        )


def slots_of(fleet: FleetDeclaration | FleetResolved) -> tuple[Slots, ...]:
    """Return the slots of all budgets of a fleet, in order."""
    hosts = enabled_hosts(fleet.hosts, fleet.channels)
    if isinstance(fleet, FleetResolved):
        budgets = [
            ManifestBudget(
                it.selector, select(it.selector, hosts), it.max_in_flight, it.max_in_flight_pct
            )
            for it in fleet.disruption_budgets
        ]
    else:
        budgets = [
            ManifestBudget(
                Selector(),
                meant(it.selector.expression, hosts),
                it.max_in_flight,
                it.max_in_flight_pct,
            )
            for it in fleet.budgets
        ]
    limits = map(BudgetTerms.of, budgets)
    return tuple(
        Slots(each.hosts, each.limit, at("budgets", index)) for index, each in enumerate(limits)
    )


def _terms(courses: Iterable[Course], budgets: Iterable[Slots]) -> RolloutTerms:
    """Return the terms of one rollout that has the waves of all courses, one channel after another."""
    staged = [
        (wave.hosts, course.tolerance_of(index))
        for course in courses
        for index, wave in enumerate(course.waves)
    ]
    targets = {host: "" for hosts, _ in staged for host in hosts}
    return RolloutTerms.build(
        _ROLLOUT,
        targets,
        waves=[hosts for hosts, _ in staged],
        budgets=[(budget.hosts & targets.keys(), budget.limit) for budget in budgets],
        tolerances=[tolerance for _, tolerance in staged],
    )


def _intolerant(course: Course) -> Course:
    waves = (evolve(wave, max_failures=0, max_failure_pct=None) for wave in course.waves)
    return evolve(course, waves=tuple(waves))


def _with_closure(hosts: Mapping[str, FleetHost], channel: str) -> frozenset[str]:
    return frozenset(
        name
        for name, host in hosts.items()
        if host.channel == channel and host.closure_hash is not None
    )
