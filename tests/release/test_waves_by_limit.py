"""Waves with a limit: whom they take, what is implied after them, and which limits are refused."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from nixfleet_proto.fleet import FleetResolved, Meta, Selector
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_release import CheckedFleet, Fleet, Problem, WaveOrder, rest, wave
from nixfleet_release.build.project import project_channel
from nixfleet_release.build.resolve import resolve
from nixfleet_release.check.staging import InForce

Checked = Callable[[str], CheckedFleet]
Problems = Callable[[str], tuple[Problem, ...]]

META = Meta(signed_at=datetime(2026, 5, 16, 1, tzinfo=UTC))
WAVE = "[[policies.ramp.waves]]\n"
LIMIT = "policies.ramp.waves[0].limit"


def fleet(hosts: int, *waves: str) -> str:
    """A channel of so many hosts, the first of them tagged first, and the rest of its policy."""
    declared = (
        f'[hosts.web-{index:02}]\nchannel = "stable"\n'
        + ('tags = ["first"]\n' if not index else "")
        for index in range(hosts)
    )
    policy = '[channels.stable]\npolicy = "ramp"\n[policies.ramp]\n'
    return policy + "\n".join(WAVE + each for each in waves) + "\n" + "".join(declared)


def released(
    checked: CheckedFleet, ref: str = "a1b2c3", in_force: InForce | None = None
) -> FleetResolved:
    closures = {name: f"closure-{name}" for name in checked.declaration.hosts}
    return resolve(checked, closures, META, channel_ref=ref, in_force=in_force)


def after(fleet: FleetResolved, ref: str = "a1b2c3") -> InForce:
    return InForce(fleet, FrozenMap({"stable": ref}))


def sizes(checked: CheckedFleet, ref: str = "a1b2c3") -> list[int]:
    return [len(each.hosts) for each in released(checked, ref).waves["stable"]]


def test_a_number_and_a_share_are_taken_and_the_rest_is_implied(checked: Checked) -> None:
    """One of thirty, then a tenth of all thirty, then those that are left."""
    ramp = checked(fleet(30, 'selector = "all"\nlimit = 1', 'selector = "all"\nlimit = "10%"'))

    assert sizes(ramp) == [1, 3, 26]


def test_a_share_of_few_hosts_is_at_least_one(checked: Checked) -> None:
    """Ten percent of three hosts is one host, not none."""
    assert sizes(checked(fleet(3, 'selector = "all"\nlimit = "10%"'))) == [1, 2]


def test_a_declared_rest_is_the_rest_and_none_is_implied(checked: Checked) -> None:
    """A rest that is declared, at any position, has the hosts that no limit took."""
    rest_first = checked(fleet(5, "rest = true\nsoak_minutes = 7", 'selector = "all"\nlimit = 2'))

    waves = released(rest_first).waves["stable"]

    assert [(len(each.hosts), each.soak_minutes) for each in waves] == [(3, 7), (2, 0)]


def test_a_wave_that_earlier_waves_leave_nothing_is_left_out(checked: Checked) -> None:
    """One ramp serves channels of any size: a small one is through it sooner."""
    waves = ('selector = "all"\nlimit = 2', 'selector = "all"\nlimit = 5', "rest = true")

    assert sizes(checked(fleet(2, *waves))) == [2]
    assert sizes(checked(fleet(4, *waves))) == [2, 2]


def test_a_later_wave_takes_from_what_earlier_ones_left(checked: Checked) -> None:
    """A wave without a limit has all that it selects except what was taken, so it may overlap."""
    waves = (
        'selector = "tags:first"\nlimit = 1',
        'selector = "hosts:web-00,web-01"',
        "rest = true",
    )

    named = [each.hosts for each in released(checked(fleet(3, *waves))).waves["stable"]]

    assert named == [("web-00",), ("web-01",), ("web-02",)]


def test_by_name_the_first_names_come_first_under_every_ref(checked: Checked) -> None:
    """`sort = "name"` gives the same canaries to each release."""
    by_name = checked(fleet(9, 'selector = "all"\nlimit = 2\nsort = "name"'))

    first = {ref: released(by_name, ref).waves["stable"][0].hosts for ref in ("a", "b", "c")}

    assert set(first.values()) == {("web-00", "web-01")}


def test_canaries_rotate_over_refs_and_stay_for_one(checked: Checked) -> None:
    """The hash of ref and host decides who is first, so another ref begins elsewhere."""
    rotating = checked(fleet(9, 'selector = "all"\nlimit = 1'))

    first = [released(rotating, ref).waves["stable"][0].hosts for ref in "abcdefgh"]

    assert len(set(first)) > 1
    assert first == [released(rotating, ref).waves["stable"][0].hosts for ref in "abcdefgh"]


def test_a_pinned_channel_rotates_by_its_own_ref(checked: Checked) -> None:
    """The order is that of the ref which the channel moves to, which is its pin's."""
    rotating = checked(fleet(9, 'selector = "all"\nlimit = 1'))
    closures = {name: f"closure-{name}" for name in rotating.declaration.hosts}

    pinned = resolve(rotating, closures, META, channel_ref="a", other_refs={"stable": "b"})

    assert pinned.waves == released(rotating, "b").waves
    assert pinned.waves != released(rotating, "a").waves


def test_the_signed_policy_and_manifest_name_the_hosts(checked: Checked) -> None:
    """No receiver needs to know of limits: policy, waves and manifest have names."""
    signed = released(checked(fleet(4, 'selector = "all"\nlimit = 1\nsoak_minutes = 5')))
    manifest = project_channel(signed, "stable", "a1b2c3", "0" * 64)

    policy = signed.rollout_policies["ramp"]
    assert [each.selector for each in policy.waves] == [
        Selector(hosts=each.hosts) for each in signed.waves["stable"]
    ]
    assert manifest.wave_soak_minutes == (5, 0)
    assert sorted(host.wave_index for host in manifest.host_set) == [0, 1, 1, 1]


def test_limits_are_declared_in_python_as_in_toml(checked: Checked) -> None:
    """The builder's waves have the same limits and the same order."""
    built = Fleet().channel("stable", policy="ramp")
    for index in range(9):
        tags = ("first",) if not index else ()
        built = built.host(f"web-{index:02}", channel="stable", tags=tags)
    built = built.policy(
        "ramp",
        wave("tags:first", limit=1),
        wave("all", limit="25%", sort=WaveOrder.NAME, soak_minutes=5),
        rest(),
    )
    written = fleet(
        9,
        'selector = "tags:first"\nlimit = 1',
        'selector = "all"\nlimit = "25%"\nsort = "name"\nsoak_minutes = 5',
        "rest = true",
    )

    assert built.check().declaration == checked(written).declaration
    assert sizes(built.check()) == [1, 2, 6]


@pytest.mark.parametrize(
    ("limit", "message", "expected"),
    [
        ("0", "out of range", "at least 1"),
        ("-1", "out of range", "at least 1"),
        ('"0%"', "out of range", "1% to 100%"),
        ('"101%"', "out of range", "1% to 100%"),
        ('"-5%"', "out of range", "1% to 100%"),
        ('"10"', "not a limit", 'a number of hosts, such as 5, or a percentage in quotes, such as "10%"'),
        ('"ten %"', "not a limit", 'a number of hosts, such as 5, or a percentage in quotes, such as "10%"'),
        ("1.5", "cannot be used", 'a number of hosts, such as 5, or a percentage in quotes, such as "10%"'),
        ("true", "cannot be used", 'a number of hosts, such as 5, or a percentage in quotes, such as "10%"'),
    ],
)  # fmt: skip
def test_a_limit_that_is_none_is_refused_at_its_place(
    problems: Problems, limit: str, message: str, expected: str
) -> None:
    """Each has its own message, and its path, line and column."""
    (problem,) = problems(fleet(3, f'selector = "all"\nlimit = {limit}'))

    assert (problem.path, problem.message, problem.expected) == (LIMIT, message, expected)
    assert problem.place is not None
    assert (problem.place.line, problem.place.column) == (6, 9)


def test_a_limit_on_a_selector_without_hosts_is_refused(problems: Problems) -> None:
    """A selector that selects nothing in the channel is a mistake, whatever its limit."""
    other = '[hosts.db-01]\nchannel = "db"\n[channels.db]\npolicy = "once"\n[policies.once]\n'

    (problem,) = problems(other + fleet(3, 'selector = "hosts:db-01"\nlimit = 1'))

    assert (problem.path, problem.message) == (LIMIT, "a limit on no hosts")
    assert "channel stable" in problem.expected


def test_a_limit_on_the_rest_is_refused(problems: Problems) -> None:
    """Who is beyond a limit on the rest would be in no wave."""
    (problem,) = problems(fleet(3, 'selector = "all"\nlimit = 1', "rest = true\nlimit = 1"))

    assert problem.path == "policies.ramp.waves[1].limit"
    assert problem.message == "a limit on the rest, which would leave hosts in no wave"


def test_an_order_without_a_limit_is_refused(problems: Problems) -> None:
    """`sort` says who is first under a limit; without one it would do nothing."""
    (problem,) = problems(fleet(3, 'selector = "all"\nsort = "name"'))

    assert (problem.path, problem.message) == ("policies.ramp.waves[0].sort", "has no effect")


def test_a_host_that_some_ref_leaves_in_no_wave_is_refused(problems: Problems) -> None:
    """The check holds for every ref, so that no release fails by chance."""
    (problem,) = problems(fleet(3, 'selector = "all"\nlimit = 1', 'selector = "tags:first"'))

    assert problem.path == "policies.ramp.waves"
    assert problem.message == "hosts of channel stable in no wave under some refs"
    assert problem.found == "web-01, web-02"


def test_an_edge_against_a_wave_of_some_ref_is_refused(problems: Problems) -> None:
    """A gated host that a limit may take before its gate is refused, unless the selector leaves it out."""
    edge = '[[edges]]\ngates = "web-00"\ngated = "web-01"\n'

    (problem,) = problems(edge + fleet(3, 'selector = "all"\nlimit = 1'))

    assert problem.path == "edges[0]"
    assert problem.message == "the two hosts would wait for each other under some refs"
    assert not problems(edge + fleet(3, 'selector = "all & !hosts:web-01"\nlimit = 1'))
    assert not problems(edge + fleet(3, 'selector = "all"\nlimit = 1\nsort = "name"'))


RAMP = ('selector = "all"\nlimit = 1', 'selector = "all"\nlimit = "20%"')


@pytest.mark.parametrize("more", [10, 31])
def test_hosts_of_a_rollout_in_force_keep_their_waves_and_new_ones_join_the_rest(
    checked: Checked, more: int
) -> None:
    """Whoever the ref would have put first among all of them; twice over."""
    first = released(checked(fleet(10, *RAMP)))
    second = released(checked(fleet(10 + more, *RAMP)), in_force=after(first))
    third = released(checked(fleet(11 + more, *RAMP)), in_force=after(second))

    one, two, rest_ = first.waves["stable"]
    new = tuple(f"web-{index:02}" for index in range(10, 10 + more))
    assert [each.hosts for each in second.waves["stable"]] == [
        one.hosts,
        two.hosts,
        tuple(sorted((*rest_.hosts, *new))),
    ]
    assert third.waves["stable"][:2] == first.waves["stable"][:2]


def test_hosts_that_leave_a_rollout_in_force_move_no_other(checked: Checked) -> None:
    """A share of fewer hosts would be smaller, and what is signed stays."""
    first = released(checked(fleet(10, *RAMP)))
    fewer = released(checked(fleet(6, *RAMP)), in_force=after(first))

    remaining = {f"web-{index:02}" for index in range(6)}
    kept = [tuple(sorted(remaining & set(each.hosts))) for each in first.waves["stable"]]
    assert [each.hosts for each in fewer.waves["stable"]] == [each for each in kept if each]


def test_waves_that_a_limit_left_empty_do_not_shift_those_that_stay(checked: Checked) -> None:
    """The release in force has two of three waves; who is in which is known all the same."""
    waves = ('selector = "all"\nlimit = 2', 'selector = "all"\nlimit = 3', "rest = true")
    first = released(checked(fleet(4, *waves)))
    assert len(first.waves["stable"]) == 2
    second = released(checked(fleet(5, *waves)), in_force=after(first))

    assert second.waves["stable"][:2] == first.waves["stable"]
    assert second.waves["stable"][2].hosts == ("web-04",)


def test_another_ref_draws_the_waves_anew(checked: Checked) -> None:
    """What is in force is no precedent for it."""
    first = released(checked(fleet(10, *RAMP)))
    ramp = checked(fleet(30, *RAMP))

    assert released(ramp, "d4", after(first)) == released(ramp, "d4")
