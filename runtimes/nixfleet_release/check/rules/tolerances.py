"""Rules about what a policy tolerates and how long it waits, against the waves that it is used with.

Each is told of the courses of channels, so that it holds for declared and for resolved fleets.
Source: docs/spec/declarations.md, Validation; docs/spec/policy.md, Slots.
"""

from collections.abc import Collection, Iterable, Iterator

from attrs import evolve

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_release.check.outlook import Course, Slots, course_of, slots_of, wedge_of
from nixfleet_release.check.rules.names import wave_path
from nixfleet_release.written.declaration import (
    FleetDeclaration,
    GuardsDeclaration,
    PolicyDeclaration,
)
from nixfleet_runtime.documents.problems import Problem, at, is_touched, listed


def of_declared(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse what the waves of a declared fleet contradict, as far as it is known who is in them."""
    policies = {name: _sound(name, policy, broken) for name, policy in fleet.policies.items()}
    sound = evolve(fleet, policies=FrozenMap(policies))
    used = [
        name
        for name, channel in sorted(fleet.channels.items())
        if channel.rollout_policy in policies and fleet.enabled_hosts_of(name)
    ]
    clear = [name for name in used if not _is_unclear(fleet, name, broken)]
    courses = tuple(course_of(sound, name) for name in clear)
    yield from of_courses(courses)
    too_many = any(True for course in courses for _ in _tolerances(course))
    if clear == used and not too_many:  # all channels share the slots of a budget
        budgets = (it for it in slots_of(fleet) if not is_touched(it.path, broken))
        yield from wedges(courses, budgets)


def of_courses(courses: Iterable[Course]) -> Iterator[Problem]:
    """Refuse tolerances and deadlines that a wave contradicts: one problem for each statement."""
    found: dict[str, Problem] = {}
    for course in courses:
        for problem in (*_tolerances(course), *_convergence(course)):
            found.setdefault(problem.path, problem)
    yield from found.values()


def wedges(courses: Collection[Course], budgets: Iterable[Slots]) -> Iterator[Problem]:
    """Refuse budgets that the hosts which may fail can fill, so that the others wait for ever."""
    staged = [host for course in courses for wave in course.waves for host in wave.hosts]
    if len(staged) != len(set(staged)):
        return  # a host in two waves, which other rules refuse
    for budget in budgets:
        wedge = wedge_of(courses, budget) if budget.limit > 0 else None
        if wedge is not None:
            sharing = [
                course.channel
                for course in courses
                if any(not budget.hosts.isdisjoint(wave.hosts) for wave in course.waves)
            ]
            yield Problem(
                budget.path,
                "can be filled by hosts that failed and are tolerated, so that the rollout stands still",
                f"at least {wedge.down + 1} slots, fewer tolerated failures, or on_health_failure = "
                '"rollback-and-halt", under which hosts that rolled back take no slot',
                f"{_count(wedge.limit, 'slot')}, and {_count(wedge.down, 'host')} that may fail in channel "
                f"{listed(sharing)}",
            )


def _tolerances(course: Course) -> Iterator[Problem]:
    # Small waves first: of a statement that several waves contradict, the first problem is told.
    for index in sorted(range(len(course.waves)), key=course.smallest.__getitem__):
        wave = course.waves[index]
        if not wave.hosts and not course.smallest[index]:
            continue
        size = max(1, course.smallest[index])
        tolerance = course.tolerance_of(index)
        if tolerance.allowed(size) < size:
            continue
        is_share = tolerance.max_failures is None or tolerance.max_failures < size
        key = "max_failure_pct" if is_share else "max_failures"
        is_own = wave.tolerance.is_declared
        path = at(course.wave_paths[index] if is_own else course.policy_path, key)
        given = tolerance.max_failure_pct if is_share else tolerance.max_failures
        most = "at most 99" if is_share else f"at most {size - 1}"
        elsewhere = "" if is_own else f", or a tolerance of its own in {course.wave_paths[index]}"
        where = f"{course.wave_paths[index]} of channel {course.channel}"
        yield Problem(
            path,
            "tolerates the failure of the only host of a wave"
            if size == 1
            else "tolerates the failure of every host of a wave",
            most + elsewhere,
            f"{given}, and {_count(size, 'host')} in {where}",
        )


def _convergence(course: Course) -> Iterator[Problem]:
    deadline = course.policy.deadlines.convergence
    soaks = [(wave.soak_minutes, index) for index, wave in enumerate(course.waves) if wave.hosts]
    longest, index = max(soaks, default=(0, 0))
    if deadline is not None and deadline.minutes <= longest:
        yield Problem(
            f"{course.policy_path}.deadlines.convergence.minutes",
            "not longer than the soak of a wave, so no host of it could converge in time",
            f"more than {longest}, the soak_minutes of {course.wave_paths[index]}",
            str(deadline.minutes),
        )


def _sound(name: str, policy: PolicyDeclaration, broken: Collection[str]) -> PolicyDeclaration:
    """Return a policy without the numbers that no released policy can have."""
    path = at("policies", name)
    waves = (
        evolve(
            wave,
            soak_minutes=max(0, wave.soak_minutes),
            guards=GuardsDeclaration(),
            max_failures=_kept(
                wave.max_failures, at(wave_path(name, index), "max_failures"), broken
            ),
            max_failure_pct=_kept(
                wave.max_failure_pct, at(wave_path(name, index), "max_failure_pct"), broken
            ),
        )
        for index, wave in enumerate(policy.waves)
    )
    return evolve(
        policy,
        waves=tuple(waves),
        max_failures=_kept(policy.max_failures, at(path, "max_failures"), broken),
        max_failure_pct=_kept(policy.max_failure_pct, at(path, "max_failure_pct"), broken),
    )


def _kept(number: int | None, path: str, broken: Collection[str]) -> int | None:
    return None if path in broken else number


def _is_unclear(fleet: FleetDeclaration, channel: str, broken: Collection[str]) -> bool:
    """Return whether it is unknown which hosts are in which wave of a channel."""
    name = fleet.channels[channel].rollout_policy
    hosts = (at("hosts", host) for host in fleet.hosts)
    waves = (wave_path(name, index) for index in range(len(fleet.policies[name].waves)))
    parts = (at(wave, key) for wave in waves for key in ("selector", "rest", "limit"))
    return any(is_touched(path, broken) for path in (*hosts, *parts)) or any(
        path in broken
        for path in ("hosts", at("policies", name), at(at("policies", name), "waves"))
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
