"""Guards of waves as they are declared: in TOML and in Python, what they become, and which of them are refused."""

from collections.abc import Callable

import pytest

from nixfleet_proto.codec import decode_fleet, encode_fleet, encode_manifest
from nixfleet_proto.steering.guards import Approvals, Check, WaveGuards
from nixfleet_release import CheckedFleet, Fleet, Problem, rest, wave
from nixfleet_release.build.project import project_channel
from nixfleet_state_machine.planner.guards.words import declared_words
from nixfleet_state_machine.planner.terms import RolloutTerms
from tests.release.test_policies import fleet, released

Checked = Callable[[str], CheckedFleet]
Problems = Callable[[str], tuple[Problem, ...]]

GUARDS = """
bake_minutes = 30
approvals = { count = 2, from = ["ada", "bob"] }
waivable = ["bake", "errors"]

[[policies.ramp.waves.checks]]
name = "errors"
judge = "prometheus"
query = "sum(rate(errors[5m]))"
comparison = "< 0.01"
passes = 3
failures = 1
inconclusive = 5
interval_seconds = 30
"""
FIRST = '[[policies.ramp.waves]]\nselector = "tags:first"\n'
REST = "[[policies.ramp.waves]]\nrest = true\n"
DECLARED = WaveGuards(
    30,
    Approvals(2, ("ada", "bob")),
    (Check("errors", "prometheus", "sum(rate(errors[5m]))", "< 0.01", 3, 1, 5, 30),),
    ("bake", "errors"),
)
PATH = "policies.ramp.waves[1]"


def guarded(guards: str = GUARDS) -> str:
    """Two waves, of which the second has guards."""
    return fleet(3, waves=FIRST + REST + guards)


def test_the_guards_of_a_wave_reach_the_terms_of_its_rollout(checked: Checked) -> None:
    """What is written is resolved, signed, read again, and what the planner goes by."""
    resolved = decode_fleet(encode_fleet(released(checked(guarded()))))
    manifest = project_channel(resolved, "stable", "a1b2c3", "0" * 64)
    terms = RolloutTerms.of_values(manifest, resolved)

    assert [terms.guards_of(wave) for wave in (0, 1)] == [WaveGuards(), DECLARED]
    assert manifest.rollout_policy.waves[1].guards == DECLARED


def test_waves_that_declare_no_guards_have_the_bytes_they_had(checked: Checked) -> None:
    """An absent field is not written, neither in the fleet nor in its manifests."""
    resolved = released(checked(guarded("")))
    manifest = project_channel(resolved, "stable", "a1b2c3", "0" * 64)

    assert b"guards" not in encode_fleet(resolved) + encode_manifest(manifest)


def test_guards_are_declared_in_python_as_in_toml(checked: Checked) -> None:
    """The builder has every field, and the same tables."""
    built = Fleet().channel("stable", policy="ramp")
    for index in range(3):
        tags = ("first",) if not index else ()
        built = built.host(f"web-{index:02}", channel="stable", tags=tags)
    built = built.policy(
        "ramp",
        wave("tags:first"),
        rest(
            bake_minutes=30,
            approvals=DECLARED.approvals,
            checks=DECLARED.checks,
            waivable=DECLARED.waivable,
        ),
    )

    assert built.check().declaration == checked(guarded()).declaration


def test_guards_are_told_in_words() -> None:
    """So that a diff of two releases shows what lets a wave begin."""
    assert tuple(declared_words(DECLARED)) == (
        "bakes 30 min (waivable)",
        "approved by 2 of ada, bob",
        "check errors by prometheus: sum(rate(errors[5m])) < 0.01, 3 in a row, 1 may fail, "
        "5 inconclusive, every 30 s (waivable)",
    )


@pytest.mark.parametrize(
    ("before", "after", "path", "message"),
    [
        ("bake_minutes = 30", "bake_minutes = -1", "bake_minutes", "out of range"),
        (
            "bake_minutes = 30",
            "bake_minutes = 181",
            "bake_minutes",
            "longer than a signature is accepted, so the wave would refuse the release",
        ),
        ("count = 2", "count = 0", "approvals.count", "out of range"),
        (
            "count = 2",
            "count = 3",
            "approvals.count",
            "more approvals than operators who may approve, so the wave would never begin",
        ),
        ("count = 2, ", "", "approvals.count", "missing"),
        ('from = ["ada", "bob"]', "from = []", "approvals.from", "empty"),
        (
            'count = 2, from = ["ada", "bob"]',
            'count = 1, from = ["ada", "ada"]',
            "approvals.from",
            "a name twice",
        ),
        ('name = "errors"', 'name = "Errors"', "checks[0].name", "not a name"),
        ('judge = "prometheus"', 'judge = "the one"', "checks[0].judge", "not a name"),
        ('query = "sum(rate(errors[5m]))"', 'query = ""', "checks[0].query", "empty"),
        ('"< 0.01"', '"< little"', "checks[0].comparison", "not a comparison"),
        ('"< 0.01"', "'< \"ready\"'", "checks[0].comparison", "not a comparison"),
        (
            "passes = 3\n",
            "",
            "checks[0].passes",
            "missing: a check without passes would let the wave begin without an answer",
        ),
        ("passes = 3", "passes = 0", "checks[0].passes", "out of range"),
        ("failures = 1", "failures = -1", "checks[0].failures", "out of range"),
        ("inconclusive = 5", "inconclusive = -1", "checks[0].inconclusive", "out of range"),
        ("seconds = 30", "seconds = 1", "checks[0].interval_seconds", "out of range"),
        ('["bake", "errors"]', '["bake", "bake"]', "waivable", "a guard twice"),
        ('["bake", "errors"]', '["soak"]', "waivable", "no guard of this wave"),
        ("failures = 1", "failure = 1", "checks[0].failure", "unknown key"),
    ],
)
def test_guards_that_cannot_be_met_are_refused(
    problems: Problems, before: str, after: str, path: str, message: str
) -> None:
    """Each is one problem, at its own place."""
    assert before in GUARDS
    found = problems(guarded(GUARDS.replace(before, after, 1)))
    told = {(problem.path, problem.message) for problem in found}

    if path == "checks[0].name":
        # Its old name is waived elsewhere, which is the same mistake.
        told.discard((f"{PATH}.waivable", "no guard of this wave"))
    assert told == {(f"{PATH}.{path}", message)}


def test_a_check_has_a_name_of_its_own(problems: Problems) -> None:
    """Neither that of another check nor that of another guard."""
    check = GUARDS[GUARDS.index("[[") :]
    twice = {(it.path, it.message) for it in problems(guarded(GUARDS + check))}
    other = GUARDS.replace('name = "errors"', 'name = "bake"').replace(', "errors"]', "]")
    taken = {(it.path, it.message) for it in problems(guarded(other))}

    assert twice == {(f"{PATH}.checks[1].name", "used twice")}
    assert taken == {(f"{PATH}.checks[0].name", "the name of another guard")}
