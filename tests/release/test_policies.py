"""Tolerances, deadlines and attempts: how they are declared, what they become, and which of them are refused."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.codec import decode_fleet, decode_manifest, encode_fleet, encode_manifest
from nixfleet_proto.fleet import FleetResolved, Meta, OnDrift, Wave
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry
from nixfleet_release import (
    CheckedFleet,
    DeclarationError,
    Fleet,
    Problem,
    import_fleet,
    rest,
    wave,
)
from nixfleet_release.build.project import project_channel
from nixfleet_release.build.resolve import resolve
from nixfleet_release.check.outlook import blast_radius_of, course_of, slots_of
from nixfleet_state_machine.planner.terms import RolloutTerms

Checked = Callable[[str], CheckedFleet]
Problems = Callable[[str], tuple[Problem, ...]]

META = Meta(signed_at=datetime(2026, 5, 16, 1, tzinfo=UTC))
EVERYTHING = """
max_failures = 4
max_failure_pct = 20

[policies.ramp.deadlines]
ack = { minutes = 30, then = "skip" }
activation = { minutes = 20, then = "fail" }
reboot = { minutes = 600, then = "wait" }
convergence = { minutes = 90, then = "fail" }

[policies.ramp.retry]
attempts = 3
backoff_seconds = 120
factor = 3
"""
WAVES = """
[[policies.ramp.waves]]
selector = "tags:first"
soak_minutes = 5
max_failures = 0

[[policies.ramp.waves]]
rest = true
max_failures = 2
max_failure_pct = 50
"""
POLICY = "policies.ramp"


def fleet(hosts: int, policy: str = "", more: str = "", *, waves: str = WAVES) -> str:
    """A channel of so many hosts, the first of them tagged first."""
    declared = (
        f'[hosts.web-{index:02}]\nchannel = "stable"\n'
        + ('tags = ["first"]\n' if not index else "")
        for index in range(hosts)
    )
    channel = '[channels.stable]\npolicy = "ramp"\n'
    return f"{channel}[policies.ramp]\n{policy}\n{waves}\n{''.join(declared)}\n{more}"


def limited(*waves: str) -> str:
    return "\n".join(f"[[policies.ramp.waves]]\n{each}" for each in waves)


def budget(slots: int, selector: str = "all") -> str:
    return f'[[budgets]]\nselector = "{selector}"\nmax_in_flight = {slots}\n'


def released(checked: CheckedFleet) -> FleetResolved:
    closures = {name: f"closure-{name}" for name in checked.declaration.hosts}
    return resolve(checked, closures, META, channel_ref="a1b2c3")


def told(problems: tuple[Problem, ...]) -> list[tuple[str, str]]:
    return [(problem.path, problem.message) for problem in problems]


# --- declared, resolved, signed --------------------------------------------------------------------


def test_every_field_of_a_policy_reaches_the_terms_of_its_rollout(checked: Checked) -> None:
    """What is written is resolved, signed, read again, and what the planner goes by."""
    resolved = decode_fleet(encode_fleet(released(checked(fleet(11, EVERYTHING)))))
    manifest = project_channel(resolved, "stable", "a1b2c3", "0" * 64)

    terms = RolloutTerms.of_values(manifest, resolved)

    assert terms.deadlines == Deadlines(
        Deadline(30, AtDeadline.SKIP),
        Deadline(20, AtDeadline.FAIL),
        Deadline(600, AtDeadline.WAIT),
        Deadline(90, AtDeadline.FAIL),
    )
    assert terms.retry == Retry(3, 120, 3)
    assert [terms.allowed_failures(wave) for wave in (0, 1)] == [0, 2]
    assert decode_manifest(encode_manifest(manifest)).blast_radius == 10
    assert resolved.rollout_policies["ramp"].max_failures == 4
    assert resolved.rollout_policies["ramp"].max_failure_pct == 20


def test_the_signed_policy_says_what_its_waves_say(checked: Checked) -> None:
    """Receivers that show a policy have each wave with its hosts, its soak and its tolerance."""
    signed = json.loads(encode_fleet(released(checked(fleet(3, waves=WAVES.replace("50", "60"))))))

    selector: dict[str, object] = {
        "all": False,
        "channel": None,
        "hosts": [],
        "tags": [],
        "tagsAny": [],
    }
    assert signed["rolloutPolicies"]["ramp"]["waves"] == [
        {"selector": {**selector, "tags": ["first"]}, "soakMinutes": 5, "maxFailures": 0},
        {
            "selector": {**selector, "hosts": ["web-01", "web-02"]},
            "soakMinutes": 0,
            "maxFailures": 2,
            "maxFailurePct": 60,
        },
    ]


def test_a_wave_that_says_nothing_has_the_tolerance_of_its_policy(checked: Checked) -> None:
    """Of number and share the smaller one counts: a fifth of ten hosts."""
    silent = WAVES.replace("max_failures = 2\nmax_failure_pct = 50\n", "")

    course = course_of(checked(fleet(11, EVERYTHING, waves=silent)).declaration, "stable")

    assert [course.allowed_in(index) for index in (0, 1)] == [0, 2]


def test_a_wave_that_gives_number_and_share_has_the_smaller(checked: Checked) -> None:
    """A quarter of ten hosts is two, and fewer than the four that the number allows."""
    both = WAVES.replace(
        "max_failures = 2\nmax_failure_pct = 50", "max_failures = 4\nmax_failure_pct = 25"
    )

    course = course_of(checked(fleet(11, waves=both)).declaration, "stable")

    assert course.allowed_in(1) == 2


def test_a_channel_says_what_follows_a_drift(checked: Checked) -> None:
    """It is reported if nothing is said, and then nothing is written."""
    text = fleet(2, waves="")
    restoring = text.replace('policy = "ramp"\n', 'policy = "ramp"\non_drift = "restore"\n')

    assert released(checked(restoring)).channels["stable"].on_drift is OnDrift.RESTORE
    assert released(checked(text)).channels["stable"].on_drift is OnDrift.REPORT
    assert b"onDrift" not in encode_fleet(released(checked(text)))


def test_a_policy_that_says_nothing_has_the_bytes_it_had(checked: Checked) -> None:
    """An absent field is not written, neither in the fleet nor in its manifests."""
    resolved = released(checked(fleet(3, waves="")))
    signed = encode_fleet(resolved) + encode_manifest(
        project_channel(resolved, "stable", "a1b2c3", "0" * 64)
    )

    new = (b"maxFailure", b"deadlines", b"retry", b"onDrift", b"blastRadius")
    assert not [name for name in new if name in signed]


def test_a_policy_is_declared_in_python_as_in_toml(checked: Checked) -> None:
    """The builder has every field, and the same tables."""
    built = Fleet().channel("stable", policy="ramp", on_drift=OnDrift.REPORT)
    for index in range(11):
        tags = ("first",) if not index else ()
        built = built.host(f"web-{index:02}", channel="stable", tags=tags)
    built = built.policy(
        "ramp",
        wave("tags:first", soak_minutes=5, max_failures=0),
        rest(max_failures=2, max_failure_pct=50),
        max_failures=4,
        max_failure_pct=20,
        deadlines=Deadlines(
            Deadline(30, AtDeadline.SKIP),
            Deadline(20, AtDeadline.FAIL),
            Deadline(600, AtDeadline.WAIT),
            Deadline(90, AtDeadline.FAIL),
        ),
        retry=Retry(3, 120, 3),
    )

    assert built.check().declaration == checked(fleet(11, EVERYTHING)).declaration


def test_an_imported_fleet_keeps_its_policies(checked: Checked) -> None:
    """No field is unknown, and the bytes are those that were read."""
    signed = encode_fleet(released(checked(fleet(11, EVERYTHING))))

    imported = import_fleet(signed)

    assert (imported.canonical, imported.unknown_fields) == (signed, ())


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "path", "message"),
    [
        ("max_failures = -1", "max_failures", "out of range"),
        ("max_failure_pct = 0", "max_failure_pct", "out of range"),
        ("max_failure_pct = 101", "max_failure_pct", "out of range"),
        ("max_failures = 1.5", "max_failures", "cannot be used"),
        ('deadlines.ack = { minutes = 0, then = "skip" }', "deadlines.ack.minutes", "out of range"),
        ("deadlines.ack = { minutes = 5 }", "deadlines.ack.then", "missing"),
        ('deadlines.ack = { then = "skip" }', "deadlines.ack.minutes", "missing"),
        ('deadlines.ack = { minutes = 5, then = "stop" }', "deadlines.ack.then", "unknown value"),
        ("deadlines.ack = 5", "deadlines.ack", "cannot be used"),
        ('deadlines.acks = { minutes = 5, then = "skip" }', "deadlines.acks", "unknown key"),
        ("retry.attempts = 0", "retry.attempts", "out of range"),
        ("retry.backoff_seconds = -1", "retry.backoff_seconds", "out of range"),
        ("retry.factor = 0", "retry.factor", "out of range"),
        ("retry.times = 3", "retry.times", "unknown key"),
    ],
)
def test_a_value_that_no_policy_can_have_is_refused(
    problems: Problems, policy: str, path: str, message: str
) -> None:
    """Each is one problem, at its own place."""
    (problem,) = problems(fleet(9, policy))

    assert (problem.path, problem.message) == (f"{POLICY}.{path}", message)
    assert problem.place is not None
    assert problem.place.line == 4


def test_a_share_out_of_range_is_refused_in_a_wave_too(problems: Problems) -> None:
    """The wave's own tolerance has the same limits."""
    waves = WAVES.replace("max_failure_pct = 50", "max_failure_pct = 101")

    (problem,) = problems(fleet(9, waves=waves))

    assert (problem.path, problem.expected) == (f"{POLICY}.waves[1].max_failure_pct", "1 to 100")


def test_all_mistakes_of_a_policy_are_told_at_once(problems: Problems) -> None:
    """One mistake hides no other that does not follow from it."""
    policy = "max_failure_pct = 0\ndeadlines.convergence = { minutes = 5, then = 'wait' }\n"
    waves = WAVES.replace("max_failures = 0", "max_failures = 1")

    found = {
        problem.path for problem in problems(fleet(9, policy + "retry.attempts = 0", waves=waves))
    }

    assert found == {
        f"{POLICY}.max_failure_pct",
        f"{POLICY}.deadlines.convergence.minutes",
        f"{POLICY}.retry.attempts",
        f"{POLICY}.waves[0].max_failures",
    }


# --- against the waves -----------------------------------------------------------------------------


def test_a_tolerance_of_every_host_of_a_wave_is_refused(problems: Problems) -> None:
    """A wave in which everybody may fail says nothing about the release."""
    waves = WAVES.replace("max_failures = 2\nmax_failure_pct = 50", "max_failures = 8")

    (problem,) = problems(fleet(9, waves=waves))

    assert problem.path == f"{POLICY}.waves[1].max_failures"
    assert problem.message == "tolerates the failure of every host of a wave"
    assert problem.expected == "at most 7"
    assert problem.found == f"8, and 8 hosts in {POLICY}.waves[1] of channel stable"


def test_a_share_of_all_hosts_is_refused(problems: Problems) -> None:
    """A hundred percent is every host, whatever the size."""
    waves = WAVES.replace("max_failures = 2\nmax_failure_pct = 50", "max_failure_pct = 100")

    (problem,) = problems(fleet(9, waves=waves))

    assert problem.path == f"{POLICY}.waves[1].max_failure_pct"
    assert problem.expected == "at most 99"


def test_a_tolerance_of_the_only_host_of_a_wave_is_refused(problems: Problems) -> None:
    """A canary that may fail is none; the tolerance of a policy is refused for its smallest wave."""
    waves = WAVES.replace("max_failures = 0\n", "")

    (problem,) = problems(fleet(9, "max_failures = 1", waves=waves))

    assert problem.path == f"{POLICY}.max_failures"
    assert problem.message == "tolerates the failure of the only host of a wave"
    assert problem.expected == f"at most 0, or a tolerance of its own in {POLICY}.waves[0]"


def test_a_wave_by_limit_is_as_small_as_a_ref_can_make_it(problems: Problems) -> None:
    """What holds has to hold for every ref: the second wave may lose its first host to the first one."""
    overlapping = limited(
        'selector = "all"\nlimit = 1',
        'selector = "hosts:web-00,web-01,web-02"\nmax_failures = 2',
        "rest = true",
    )

    (problem,) = problems(fleet(9, waves=overlapping))

    assert problem.path == f"{POLICY}.waves[1].max_failures"
    assert problem.found == f"2, and 2 hosts in {POLICY}.waves[1] of channel stable"


def test_an_implied_rest_is_called_so(problems: Problems) -> None:
    """The rest that follows a limit has no place in the file."""
    (problem,) = problems(
        fleet(3, "max_failures = 1", waves=limited('selector = "all"\nlimit = 2'))
    )

    assert problem.found == f"1, and 1 host in the rest of {POLICY} of channel stable"


def test_a_convergence_deadline_within_a_soak_is_refused(problems: Problems) -> None:
    """A host soaks longer than it may take; one minute more is enough."""
    policy = "deadlines.convergence = {{ minutes = {}, then = 'fail' }}"

    (problem,) = problems(fleet(9, policy.format(5)))

    assert problem.path == f"{POLICY}.deadlines.convergence.minutes"
    assert problem.expected == f"more than 5, the soak_minutes of {POLICY}.waves[0]"
    assert problems(fleet(9, policy.format(6))) == ()


# --- standing still --------------------------------------------------------------------------------


def test_a_budget_that_tolerated_failures_fill_is_refused_with_the_numbers(
    problems: Problems,
) -> None:
    """Under halt a failed host keeps its slot, and two of two leave none for the others."""
    (problem,) = problems(fleet(9, more=budget(2)))

    assert problem.path == "budgets[0]"
    assert problem.found == "2 slots, and 2 hosts that may fail in channel stable"
    assert problem.expected.startswith("at least 3 slots, fewer tolerated failures")


@pytest.mark.parametrize(
    ("policy", "slots"), [("", 3), ('on_health_failure = "rollback-and-halt"', 1)]
)
def test_a_budget_that_cannot_be_filled_is_accepted(
    problems: Problems, policy: str, slots: int
) -> None:
    """One slot more is enough, and hosts that roll back give theirs back."""
    assert problems(fleet(9, policy, budget(slots))) == ()


def test_channels_fill_a_budget_together(problems: Problems) -> None:
    """Slots are shared by all channels, so the failures of both are summed."""
    other = '[channels.edge]\npolicy = "edge"\n[policies.edge]\nmax_failures = 1\n' + "".join(
        f'[hosts.edge-{index}]\nchannel = "edge"\n' for index in range(4)
    )

    (problem,) = problems(fleet(9, more=other + budget(3)))

    assert problem.found == "3 slots, and 3 hosts that may fail in channel edge, stable"
    assert problems(fleet(9, more=other + budget(4))) == ()


# --- warnings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "waves", "warning"),
    [
        (
            "retry.attempts = 3",
            "",
            "policies.ramp.retry.attempts: 3, but no host of channel stable",
        ),
        (
            "max_failure_pct = 5",
            "",
            "policies.ramp.max_failure_pct: 5 % of 9 hosts is less than one",
        ),
        (
            "",
            WAVES.replace("max_failures = 2\nmax_failure_pct = 50", "max_failure_pct = 9"),
            "policies.ramp.waves[1].max_failure_pct: 9 % of 8 hosts is less than one",
        ),
        (
            "deadlines.ack = { minutes = 30, then = 'skip' }",
            WAVES,
            "policies.ramp.waves[0]: its only host in channel stable is skipped if it is off for 30",
        ),
    ],
)
def test_what_does_less_than_it_seems_to_is_warned_of(
    checked: Checked, policy: str, waves: str, warning: str
) -> None:
    """The fleet can be released, and says one thing too many."""
    (found,) = checked(fleet(9, policy, waves=waves)).warnings

    assert str(found).startswith(warning)


def test_attempts_under_a_tolerance_and_waiting_deadlines_are_not_warned_of(
    checked: Checked,
) -> None:
    """Both do what they say."""
    policy = "retry.attempts = 3\ndeadlines.ack = { minutes = 30, then = 'wait' }"

    assert checked(fleet(9, policy)).warnings == ()


# --- the worst case --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "slots", "shown"),
    [
        (
            OnHealthFailure.ROLLBACK_AND_HALT,
            5,
            "at worst 7 of 300 hosts: 2 tolerated + 5 in flight",
        ),
        (OnHealthFailure.HALT, 5, "at worst 5 of 300 hosts: 2 tolerated + 3 in flight"),
        (OnHealthFailure.HALT, 300, "at worst 299 of 300 hosts: 2 tolerated + 297 in flight"),
    ],
)
def test_the_worst_case_is_shown_with_its_parts(
    checked: Checked, policy: OnHealthFailure, slots: int, shown: str
) -> None:
    """Those after which the waves go on, and those in flight when the rollout halts."""
    declared = checked(fleet(300, f'on_health_failure = "{policy}"', budget(slots))).declaration

    radius = blast_radius_of(course_of(declared, "stable"), slots_of(declared))

    assert str(radius) == shown


# --- resolved elsewhere ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        (Wave(("web-01",), max_failures=1), "$.waves.stable[1].maxFailures"),
        (
            Wave(("web-01",), soak_minutes=90),
            "$.rolloutPolicies.ramp.deadlines.convergence.minutes",
        ),
    ],
)
def test_an_imported_fleet_is_held_to_the_same_rules(
    checked: Checked, wrong: Wave, path: str
) -> None:
    """A fleet that was resolved elsewhere is refused with the path in its JSON."""
    resolved = released(
        checked(
            fleet(
                2,
                "deadlines.convergence = { minutes = 9, then = 'wait' }",
                waves=WAVES.partition("max_failures = 2")[0],
            )
        )
    )
    waves = FrozenMap[str, tuple[Wave, ...]]({"stable": (resolved.waves["stable"][0], wrong)})

    with pytest.raises(DeclarationError) as raised:
        import_fleet(encode_fleet(evolve(resolved, waves=waves)))

    assert [problem.path for problem in raised.value.problems] == [path]
