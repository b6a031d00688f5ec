"""What a declaration can get wrong: each mistake is found, and told once, with its place."""

import base64
from collections.abc import Callable

import pytest

from nixfleet_proto.fleet import FleetHost
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import SigningKey
from nixfleet_release import (
    CheckedFleet,
    DeclarationError,
    FleetDeclaration,
    Problem,
    check_declaration,
)

Problems = Callable[[str], tuple[Problem, ...]]
Told = list[tuple[str, str]]


def told(problems: tuple[Problem, ...]) -> Told:
    return [(problem.path, problem.found) for problem in problems]


def test_a_fleet_without_mistakes_has_no_problem(problems: Problems, shop: str) -> None:
    """The fleet that the other tests break is good."""
    assert problems(shop) == ()


@pytest.mark.parametrize(
    ("text", "path", "found"),
    [
        ("[hosts.x]\nchannel = 'stabel'", "hosts.x.channel", '"stabel"'),
        (
            "[hosts.x]\nchannel = 'c'\n[channels.c]\npolicy = 'canary'",
            "channels.c.policy",
            '"canary"',
        ),
        ("[tags.wbe]", "tags.wbe", '"wbe"'),
        (
            "[[budgets]]\nmax_in_flight = 1\nselector = { tags_any = ['web', 'wbe'] }",
            "budgets[0].selector.tags_any[1]",
            '"wbe"',
        ),
        (
            "[[budgets]]\nmax_in_flight = 1\nselector = { hosts = ['web-09'] }",
            "budgets[0].selector.hosts[0]",
            '"web-09"',
        ),
        (
            "[[budgets]]\nmax_in_flight = 1\nselector = { channel = 'stabel' }",
            "budgets[0].selector.channel",
            '"stabel"',
        ),
        ("[[edges]]\ngates = 'web-01'\ngated = 'bd-01'", "edges[0].gated", '"bd-01"'),
        (
            "[[channel_edges]]\ngates = 'stabel'\ngated = 'stable'",
            "channel_edges[0].gates",
            '"stabel"',
        ),
    ],
)
def test_a_name_that_refers_to_nothing_is_refused(
    problems: Problems, shop: str, text: str, path: str, found: str
) -> None:
    """Unknown hosts, tags, channels and policies are found wherever they are named."""
    assert told(problems(shop + text)) == [(path, found)]


def test_an_unknown_name_comes_with_the_known_ones(problems: Problems, shop: str) -> None:
    """The problem lists what could have been meant."""
    (problem,) = problems(shop + "[hosts.x]\nchannel = 'stabel'")

    assert str(problem).endswith(
        'fleet.toml:24:11: hosts.x.channel: no such channel: expected one of stable, found "stabel";'
        " did you mean stable?"
    )


def test_a_tag_misspelt_in_a_wave_is_one_problem(problems: Problems, shop: str) -> None:
    """That the wave is empty follows from the misspelling, and is not told as well."""
    text = shop.replace('selector = { tags = ["canary"] }', 'selector = { tags = ["canray"] }')

    assert told(problems(text)) == [("policies.canary-first.waves[0].selector.tags[0]", '"canray"')]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[hosts.'web 03']\nchannel = 'stable'", 'hosts."web 03"'),
        ("[hosts.x]\nchannel = 'stable'\ntags = ['a,b']", "hosts.x.tags[0]"),
        (
            "[hosts.x]\nchannel = 'A@B'\n[channels.'A@B']\npolicy = 'p'\n[policies.p]",
            'channels."A@B"',
        ),
        ("[policies.'käse']", 'policies."käse"'),
        (
            "[health_checks.'a/b']\nkind = 'exec'\ncommand = ['true']",
            'health_checks."a/b"',
        ),
    ],
)
def test_a_name_that_cannot_be_used_everywhere_is_refused(
    problems: Problems, shop: str, text: str, path: str
) -> None:
    """Names with separators, spaces or letters beyond ASCII are refused."""
    assert [it.path for it in problems(shop + text)] == [path]


@pytest.mark.parametrize(
    ("edges", "path", "cycle"),
    [
        ([("web-01", "web-01")], "edges[0]", "web-01 → web-01"),
        (
            [("web-01", "web-02"), ("web-02", "db-01"), ("db-01", "web-01")],
            "edges[1]",
            "db-01 → web-01 → web-02 → db-01",
        ),
    ],
)
def test_host_edges_in_a_circle_are_refused(
    problems: Problems, edges: list[tuple[str, str]], path: str, cycle: str
) -> None:
    """The way around is printed, from the first of its names back to it, at the edge that closes it."""
    fleet = """
        [hosts]
        web-01.channel = "stable"
        web-02.channel = "stable"
        db-01.channel = "stable"
        [channels.stable]
        policy = "all"
        [policies.all]
        """
    text = "".join(f"[[edges]]\ngates = '{gates}'\ngated = '{gated}'\n" for gates, gated in edges)

    assert told(problems(fleet + text)) == [(path, cycle)]


def test_two_circles_of_channel_edges_are_both_refused(problems: Problems) -> None:
    """Every circle is told, not only the first that is found."""
    channels = "abcd"
    text = "[policies.p]\n" + "".join(
        f"[channels.{it}]\npolicy = 'p'\n[hosts.{it}]\nchannel = '{it}'\n" for it in channels
    )
    for gates, gated in ("ab", "ba", "cd", "dc"):
        text += f"[[channel_edges]]\ngates = '{gates}'\ngated = '{gated}'\n"

    assert told(problems(text)) == [
        ("channel_edges[1]", "a → b → a"),
        ("channel_edges[3]", "c → d → c"),
    ]


def test_a_host_edge_between_channels_is_refused(problems: Problems, shop: str) -> None:
    """Both channels are told, and what orders channels."""
    (problem,) = problems(
        shop
        + """
        [hosts.office]
        channel = "office"
        [channels.office]
        policy = "plain"
        [policies.plain]
        [[edges]]
        gates = "web-01"
        gated = "office"
        """
    )

    assert problem.path == "edges[0]"
    assert problem.found == "web-01 in stable, office in office"
    assert "channel_edges" in problem.expected


def test_a_host_edge_against_the_waves_is_refused(problems: Problems, shop: str) -> None:
    """A host that waits for one of a later wave would wait forever."""
    found = problems(shop + "[[edges]]\ngates = 'db-01'\ngated = 'web-01'")

    assert told(found) == [("edges[0]", "db-01 in waves[1], web-01 in waves[0]")]


def test_a_host_edge_along_the_waves_is_accepted(problems: Problems, shop: str) -> None:
    """A host may wait for one of an earlier wave or of its own."""
    edges = "[[edges]]\ngates = 'web-01'\ngated = 'db-01'\n"
    edges += "[[edges]]\ngates = 'web-02'\ngated = 'db-01'\n"

    assert problems(shop + edges) == ()


def test_a_host_in_two_waves_is_refused(problems: Problems, shop: str) -> None:
    """The hosts and both waves are told."""
    text = shop.replace("rest = true", "selector = { all = true }")

    assert told(problems(text)) == [("policies.canary-first.waves[1]", "web-01 in waves[0] too")]


def test_a_host_in_no_wave_is_refused(problems: Problems, shop: str) -> None:
    """The hosts that are left out are told, and what to do about it."""
    (problem,) = problems(shop.replace("rest = true", 'selector = { hosts = ["web-02"] }'))

    assert (problem.path, problem.found) == ("policies.canary-first.waves", "db-01")
    assert "rest = true" in problem.expected


def test_a_wave_that_is_empty_on_one_channel_is_refused(problems: Problems, shop: str) -> None:
    """A policy must fit every channel that uses it; the channel is told."""
    (problem,) = problems(
        shop + "[hosts.x]\nchannel = 'edge'\n[channels.edge]\npolicy = 'canary-first'"
    )

    assert problem.path == "policies.canary-first.waves[0]"
    assert problem.expected == "a host of channel edge"


def test_a_second_wave_of_the_rest_is_refused(problems: Problems, shop: str) -> None:
    """There is one rest; that its hosts are in two waves is not told as well."""
    text = shop + "[[policies.canary-first.waves]]\nrest = true"

    assert told(problems(text)) == [("policies.canary-first.waves[2].rest", "another one")]


@pytest.mark.parametrize("index", [1, 2], ids=["before the rest", "after the rest"])
def test_a_wave_that_selects_no_hosts_is_no_second_wave_of_the_rest(
    problems: Problems, shop: str, index: int
) -> None:
    """What it lacks is the one mistake, on either side of the wave of the rest."""
    canaries, rest = shop.rsplit("[[policies.canary-first.waves]]\n", 1)
    waves = [rest]
    waves.insert(index - 1, "soak_minutes = 1\n")
    text = "[[policies.canary-first.waves]]\n".join([canaries, *waves])

    assert told(problems(text)) == [(f"policies.canary-first.waves[{index}]", "neither")]


def test_a_selector_without_parts_is_refused(problems: Problems, shop: str) -> None:
    """A selector that means nobody is never what was meant."""
    text = shop + "[[budgets]]\nselector = {}\nmax_in_flight = 1"

    assert told(problems(text)) == [("budgets[0].selector", "none")]


def test_a_selector_with_an_empty_list_is_refused(problems: Problems, shop: str) -> None:
    """An empty list of tags could mean everybody or nobody, so it means neither."""
    text = shop + "[[budgets]]\nselector = { tags = [] }\nmax_in_flight = 1"

    assert told(problems(text)) == [("budgets[0].selector.tags", "none")]


@pytest.mark.parametrize(
    ("limit", "path", "found"),
    [
        ("max_in_flight = 0", "budgets[0].max_in_flight", "0"),
        ("max_in_flight_pct = 0", "budgets[0].max_in_flight_pct", "0"),
        ("max_in_flight_pct = 101", "budgets[0].max_in_flight_pct", "101"),
        ("max_in_flight_pct = '10%'", "budgets[0].max_in_flight_pct", '"10%"'),
        ("", "budgets[0]", "none of them"),
        ("max_in_flight = 1\nmax_per_minute = 0", "budgets[0].max_per_minute", "0"),
        ("max_in_flight = 1\nmax_per_minute = -2", "budgets[0].max_per_minute", "-2"),
        ("max_in_flight = 1\nramp = { start = 0 }", "budgets[0].ramp.start", "0"),
        ("max_in_flight = 1\nramp = { start = -1 }", "budgets[0].ramp.start", "-1"),
        ("max_in_flight = 1\nramp = { start = 1, factor = 0 }", "budgets[0].ramp.factor", "0"),
        ("max_in_flight = 1\nramp = {}", "budgets[0].ramp.start", "nothing"),
        ("max_in_flight = 1\nramp = { start = 2 }", "budgets[0].ramp.start", "2"),
        ("max_in_flight_pct = 50\nramp = { start = 9 }", "budgets[0].ramp.start", "9"),
        ("max_per_minute = 100", "budgets[0].max_per_minute", "100"),
    ],
)
def test_a_budget_without_a_limit_that_can_be_kept_is_refused(
    problems: Problems, shop: str, limit: str, path: str, found: str
) -> None:
    """A budget lets at least one host through, and not more than all."""
    text = shop + f"[[budgets]]\nselector = {{ all = true }}\n{limit}"

    assert told(problems(text)) == [(path, found)]


def test_a_budget_that_protects_nobody_is_refused(problems: Problems, shop: str) -> None:
    """Known tags that no host has together protect nothing."""
    text = shop + "[[budgets]]\nselector = { tags = ['web', 'db'] }\nmax_in_flight = 1"

    assert told(problems(text)) == [("budgets[0].selector", "tags:db,web")]


def test_two_budgets_with_equal_selectors_are_refused(problems: Problems, shop: str) -> None:
    """Budgets are counted by selector, so each selector has one; order does not tell them apart."""
    text = shop + "[[budgets]]\nselector = { tags_any = ['web', 'db'] }\nmax_in_flight = 1\n"
    text += "[[budgets]]\nselector = { tags_any = ['db', 'web'] }\nmax_in_flight = 2\n"

    assert told(problems(text)) == [("budgets[1].selector", "tags_any:db,web in budgets[0]")]


@pytest.mark.parametrize(
    ("setting", "path", "expected"),
    [
        ("signing_interval_minutes = 0", "signing_interval_minutes", "at least 1"),
        (
            "signing_interval_minutes = 60\nfreshness_window_minutes = 119",
            "freshness_window_minutes",
            "at least 120, twice signing_interval_minutes",
        ),
    ],
)
def test_a_channel_with_times_that_do_not_fit_is_refused(
    problems: Problems, shop: str, setting: str, path: str, expected: str
) -> None:
    """Intervals are at least a minute, and artefacts outlive two signings."""
    text = shop.replace("[channels.stable]", f"[channels.stable]\n{setting}")

    found = problems(text)

    assert [(it.path, it.expected) for it in found] == [(f"channels.stable.{path}", expected)]


def test_a_freshness_window_of_exactly_two_signings_is_accepted(
    problems: Problems, shop: str
) -> None:
    """The limit itself is good."""
    setting = "signing_interval_minutes = 60\nfreshness_window_minutes = 120"

    assert problems(shop.replace("[channels.stable]", f"[channels.stable]\n{setting}")) == ()


def test_a_negative_soak_is_refused(problems: Problems, shop: str) -> None:
    """A wave soaks for no time or for some."""
    text = shop.replace("soak_minutes = 5", "soak_minutes = -5")

    assert told(problems(text)) == [("policies.canary-first.waves[0].soak_minutes", "-5")]


@pytest.mark.parametrize(
    ("check", "path", "found"),
    [
        ("kind = 'exec'\ncommand = ['x']\ninterval_seconds = 0", "interval_seconds", "0"),
        ("kind = 'exec'\ncommand = ['x']\ntimeout_secs = 0", "timeout_secs", "0"),
        ("kind = 'exec'\ncommand = ['x']\nexpect_exit_code = 256", "expect_exit_code", "256"),
        ("kind = 'exec'\ncommand = ['x']\nhealthy = '0%'", "healthy", "'0%'"),
        ("kind = 'exec'\ncommand = ['x']\nhealthy = 'always'", "healthy", "'always'"),
        (
            "kind = 'exec'\ncommand = ['x']\nrun_once = true\nhealthy = 'last-third'",
            "healthy",
            "'last-third'",
        ),
        ("kind = 'exec'\ncommand = []", "command", "none"),
        ("kind = 'exec'\ncommand = ['', 'x']", "command", "none"),
        ("kind = 'http'\nurl = 'localhost'", "url", '"localhost"'),
        ("kind = 'http'\nurl = 'http://x'\nexpect_status = 1000", "expect_status", "1000"),
        ("kind = 'http'\nurl = 'http://x'\ntimeout_secs = -1", "timeout_secs", "-1"),
        ("kind = 'tcp'\nhost = 'x'\nport = 0", "port", "0"),
        (
            "kind = 'tcp'\nhost = 'x'\nport = 1\nconnect_timeout_secs = 0",
            "connect_timeout_secs",
            "0",
        ),
    ],
)
def test_a_health_check_that_could_not_run_is_refused(
    problems: Problems, shop: str, check: str, path: str, found: str
) -> None:
    """Intervals, timeouts, ports and addresses are within what can be done."""
    text = shop + f"[health_checks.x]\n{check}"

    assert told(problems(text)) == [(f"health_checks.x.{path}", found)]


def test_two_tags_of_one_host_with_one_health_check_are_refused(
    problems: Problems, shop: str
) -> None:
    """Which tag counts would be a guess; the tags and the hosts are told."""
    check = "kind = 'exec'\ncommand = ['true']\n"
    text = f"[tags.web.health_checks.x]\n{check}[tags.canary.health_checks.x]\n{check}"

    assert told(problems(shop + text)) == [
        ("tags.web.health_checks.x", "tag canary, tag web on web-01")
    ]


def test_two_tags_of_different_hosts_with_one_health_check_are_accepted(
    problems: Problems, shop: str
) -> None:
    """Tags that never meet on a host may use one name."""
    check = "kind = 'exec'\ncommand = ['true']\n"
    text = f"[tags.web.health_checks.x]\n{check}[tags.db.health_checks.x]\n{check}"

    assert problems(shop + text) == ()


def test_a_channel_without_hosts_is_refused(problems: Problems, shop: str) -> None:
    """Nothing could be rolled out on it."""
    text = shop + "[channels.edge]\npolicy = 'canary-first'"

    assert told(problems(text)) == [("channels.edge", "none")]


def test_an_empty_file_is_refused(problems: Problems) -> None:
    """A fleet has at least one host."""
    assert told(problems("")) == [("hosts", "none")]


def test_a_declaration_made_in_python_is_judged_by_the_same_rules() -> None:
    """What TOML cannot say wrong can be wrong elsewhere; the paths are those of the file."""
    declaration = FleetDeclaration(
        hosts=FrozenMap({"one": FleetHost(channel="stable")}),
        channels=FrozenMap(),
        policies=FrozenMap(),
    )

    with pytest.raises(DeclarationError) as caught:
        check_declaration(declaration)

    assert told(caught.value.problems) == [("hosts.one.channel", '"stable"')]


def test_a_soak_longer_than_the_freshness_window_is_refused(problems: Problems, shop: str) -> None:
    """Hosts of the next wave would refuse a release that was signed once; the window itself is fine."""
    longer = shop.replace("soak_minutes = 5", "soak_minutes = 240")
    window = longer.replace(
        "[channels.stable]", "[channels.stable]\nfreshness_window_minutes = 240"
    )

    assert told(problems(longer)) == [("policies.canary-first.waves[0].soak_minutes", "240")]
    assert problems(window) == ()


@pytest.mark.parametrize("other", ["Web-01", "web-01.", "WEB-01"])
def test_names_that_are_one_machine_elsewhere_are_refused(
    problems: Problems, shop: str, other: str
) -> None:
    """DNS ignores case and a final dot, and so do some file systems."""
    found = problems(shop + f'[hosts."{other}"]\nchannel = "stable"\n')

    assert [it.message.partition(" as ")[0] for it in found] == ["the same machine"]
    assert {*found[0].found.split(" and ")} == {"web-01", other}


def test_one_public_key_for_two_hosts_is_refused(problems: Problems, shop: str) -> None:
    """Either host could report as the other; the form in which the key is written makes no difference."""
    key = SigningKey(b"\5" * 32).public_key.public_key
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes.fromhex(key)
    openssh = f"ssh-ed25519 {base64.b64encode(blob).decode()} root@web-02"
    text = shop.replace("[hosts.web-01]", f'[hosts.web-01]\npubkey = "{key}"')
    text = text.replace("[hosts.web-02]", f'[hosts.web-02]\npubkey = "{openssh}"')

    assert told(problems(text)) == [("hosts.web-02.pubkey", "web-01 and web-02")]


def test_names_that_are_too_long_for_files_are_refused(problems: Problems, shop: str) -> None:
    """A host's closure, and a rollout's manifest, are files with these names in theirs."""
    host, commit = "h" * 201, "c" * 129
    text = shop + f'[hosts.{host}]\nchannel = "stable"\npin = {{ commit = "{commit}" }}\n'
    channel = shop.replace('"stable"', f'"{"s" * 101}"').replace("stable", "s" * 101)

    assert told(problems(text)) == [(f"hosts.{host}", "201"), (f"hosts.{host}.pin.commit", "129")]
    assert told(problems(channel)) == [(f"channels.{'s' * 101}", "101")]
    assert problems(shop + f'[hosts.{"h" * 200}]\nchannel = "stable"\n') == ()


def test_a_health_check_that_holds_a_secret_is_warned_about(
    checked: Callable[[str], CheckedFleet], shop: str
) -> None:
    """By its scope, name and field; the secret itself is not repeated."""
    text = shop + (
        '[health_checks.api]\nkind = "http"\nurl = "http://127.0.0.1/health?token=hunter2"\n'
        '[health_checks.db]\nkind = "exec"\ncommand = ["check", "--password", "hunter2"]\n'
        '[health_checks.fine]\nkind = "http"\nurl = "http://127.0.0.1/health"\n'
    )

    warnings = [str(it) for it in checked(text).warnings]

    assert [it.partition(" of ")[0] for it in warnings] == ["url", "command"]
    assert "hunter2" not in "".join(warnings)
