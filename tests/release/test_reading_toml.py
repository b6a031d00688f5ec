"""What stands in a fleet file, read with its type or refused with its path."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nixfleet_proto.agent_event import OnHealthFailure, ProbeMode
from nixfleet_proto.fleet import Edge, FleetChannel, FleetHost
from nixfleet_proto.health_check import EvidenceProbe, ExecProbe, HttpProbe, TcpProbe
from nixfleet_release import (
    BudgetDeclaration,
    CheckedFleet,
    DeclarationError,
    PolicyDeclaration,
    Problem,
    SelectorDeclaration,
    WaveDeclaration,
    check,
)
from nixfleet_runtime.documents.problems import Place
from nixfleet_state_machine.scopes.expression import AllOf, channels, tags

Checked = Callable[[str], CheckedFleet]
Problems = Callable[[str], tuple[Problem, ...]]


def test_a_minimal_fleet_gets_the_defaults(checked: Checked) -> None:
    """A host, its channel and an empty policy are a fleet; everything else has a default."""
    fleet = checked(
        """
        [hosts.one]
        channel = "stable"
        [channels.stable]
        policy = "all-at-once"
        [policies.all-at-once]
        """
    ).declaration

    assert fleet.hosts == {"one": FleetHost(channel="stable")}
    assert fleet.channels == {"stable": FleetChannel(rollout_policy="all-at-once")}
    assert fleet.policies == {"all-at-once": PolicyDeclaration()}
    assert fleet.name is None


def test_everything_a_fleet_may_say_is_read(checked: Checked, shop: str) -> None:
    """Every key that is no health check comes out where it belongs."""
    fleet = checked(
        shop
        + """
        [fleet]
        name = "shop"
        [hosts.office]
        channel = "office"
        platform = "aarch64-linux"
        pubkey = "ssh-ed25519 AAAA"
        [channels.office]
        policy = "careful"
        freshness_window_minutes = 240
        signing_interval_minutes = 30
        [policies.careful]
        on_health_failure = "rollback-and-halt"
        [[budgets]]
        selector = { tags = ["web"], channel = "stable" }
        max_in_flight = 2
        max_in_flight_pct = 50
        [[edges]]
        gates = "web-01"
        gated = "db-01"
        reason = "because"
        [[channel_edges]]
        gates = "stable"
        gated = "office"
        """
    ).declaration

    assert fleet.name == "shop"
    assert fleet.hosts["office"] == FleetHost(
        channel="office", platform="aarch64-linux", pubkey="ssh-ed25519 AAAA"
    )
    assert fleet.channels["office"] == FleetChannel(
        "careful", freshness_window=240, signing_interval_minutes=30
    )
    assert fleet.policies["careful"].on_health_failure is OnHealthFailure.ROLLBACK_AND_HALT
    assert fleet.policies["canary-first"].waves == (
        WaveDeclaration(SelectorDeclaration.of(AllOf((tags("canary"),))), 5),
        WaveDeclaration(None, 0),
    )
    web = SelectorDeclaration.of(AllOf((tags("web"), channels("stable"))))
    assert fleet.budgets == (BudgetDeclaration(web, 2, 50),)
    assert fleet.edges == (Edge("web-01", "db-01", "because"),)
    assert fleet.channel_edges == (Edge("stable", "office"),)


def test_every_kind_of_health_check_is_read(checked: Checked, shop: str) -> None:
    """Each kind takes its own keys, and those that all kinds have."""
    fleet = checked(
        shop
        + """
        [health_checks.http]
        kind = "http"
        url = "http://localhost/"
        expect_status = 204
        body_contains = "ok"
        timeout_secs = 7
        [health_checks.tcp]
        kind = "tcp"
        host = "localhost"
        port = 22
        connect_timeout_secs = 1
        mode = "observe"
        [health_checks.exec]
        kind = "exec"
        command = ["systemctl", "is-system-running"]
        expect_exit_code = 1
        timeout_secs = 20
        run_once = true
        healthy = "latest"
        [health_checks.evidence]
        kind = "evidence"
        framework = "nis2"
        evidence_path = "/run/evidence.json"
        interval_seconds = 600
        """
    )

    assert fleet.health_checks["web-01"] == {
        "http": HttpProbe("http://localhost/", 204, "ok", 7),
        "tcp": TcpProbe("localhost", 22, 1, mode=ProbeMode.OBSERVE),
        "exec": ExecProbe(
            ("systemctl", "is-system-running"), 1, 20, run_once=True, healthy="latest"
        ),
        "evidence": EvidenceProbe("nis2", "/run/evidence.json", interval_seconds=600),
    }


@pytest.mark.parametrize(
    ("mistake", "path", "found"),
    [
        ("[hosts.x]\nchannel = 3", "hosts.x.channel", "3"),
        ("[hosts.x]\nchannel = ''", "hosts.x.channel", '""'),
        ("[hosts.x]\nchannel = 'stable'\ntags = 'web'", "hosts.x.tags", '"web"'),
        ("[hosts.x]\nchannel = 'stable'\ntags = ['web', 1]", "hosts.x.tags[1]", "1"),
        ("[hosts]\nx = 'stable'", "hosts.x", '"stable"'),
        ("[[health_checks]]", "health_checks", "an array"),
        (
            "[channels.x]\npolicy = 'canary-first'\nsigning_interval_minutes = true",
            "channels.x.signing_interval_minutes",
            "true",
        ),
        (
            "[channels.x]\npolicy = 'canary-first'\nsigning_interval_minutes = 1.0",
            "channels.x.signing_interval_minutes",
            "1.0",
        ),
        (
            "[channels.x]\npolicy = 'canary-first'\nsigning_interval_minutes = 3000000000",
            "channels.x.signing_interval_minutes",
            "3000000000",
        ),
        ("[policies.x]\nwaves = [1]", "policies.x.waves[0]", "1"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_at_its_place(
    problems: Problems, shop: str, mistake: str, path: str, found: str
) -> None:
    """Nothing is coerced: the problem names the place and shows what stands there."""
    assert (path, found) in [(it.path, it.found) for it in problems(shop + mistake)]


def test_a_value_of_the_wrong_type_is_one_problem(problems: Problems, shop: str) -> None:
    """What would follow from a value that could not be read is not told as well."""
    text = shop.replace('policy = "canary-first"', "policy = 1")

    assert [it.path for it in problems(text)] == ["channels.stable.policy"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[[policies.x.waves]]\nselector = ['tags:web']", "policies.x.waves[0].selector"),
        ("[policies.x]\nwaves = ['web']", "policies.x.waves[0]"),
        ("[[budgets]]\nmax_in_flight = 1\nselector = { not = ['web'] }", "budgets[0].selector.not"),
        ("[[budgets]]\nmax_in_flight = 1\nselector = {}", "budgets[0].selector"),
        ("[[budgets]]\nmax_in_flight = 1\nselector = 'tags'", "budgets[0].selector"),
        ("[[budgets]]\nmax_in_flight = 1\nselector = ''", "budgets[0].selector"),
        ("[edges]\ngates = 'web-01'", "edges"),
    ],
)
def test_what_should_be_a_table_or_a_selector_is_refused_once(
    problems: Problems, shop: str, text: str, path: str
) -> None:
    """What it would have had to say is not told as well."""
    assert [it.path for it in problems(shop + text)] == [path]


def test_hosts_that_are_no_tables_by_name_are_one_problem(problems: Problems, shop: str) -> None:
    """That nobody is on the channel then only follows."""
    text = "[[hosts]]\nchannel = 'stable'\n" + shop[shop.index("[channels") :]

    assert problems(text)[0].path == "hosts"
    assert "channels.stable" not in [it.path for it in problems(text)]


def test_a_mark_of_utf8_says_nothing(tmp_path: Path, shop: str) -> None:
    """Some editors put one before the text; lines may end as they do there, too."""
    (tmp_path / "fleet.toml").write_bytes(b"\xef\xbb\xbf" + shop.replace("\n", "\r\n").encode())

    assert sorted(check(tmp_path).declaration.hosts) == ["db-01", "web-01", "web-02"]


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("http", ["url"]),
        ("tcp", ["host", "port"]),
        ("exec", ["command"]),
        ("evidence", ["evidence_path", "framework"]),
    ],
)
def test_a_health_check_without_its_fields_is_refused(
    problems: Problems, shop: str, kind: str, missing: list[str]
) -> None:
    """Every field that a kind cannot do without is told."""
    found = problems(shop + f"[health_checks.x]\nkind = '{kind}'")

    assert [(it.path, it.message) for it in found] == [
        (f"health_checks.x.{field}", "missing") for field in missing
    ]


def test_a_health_check_of_unknown_kind_is_judged_by_what_all_kinds_share(
    problems: Problems, shop: str
) -> None:
    """The kinds are told; keys of an unknown kind are not held against it, an interval is."""
    found = problems(
        shop + "[health_checks.x]\nkind = 'htp'\nurl = 'http://x'\ninterval_seconds = 0"
    )

    assert [(it.path, it.expected) for it in found] == [
        ("health_checks.x.kind", "one of evidence, exec, home, http, systemd, tcp"),
        ("health_checks.x.interval_seconds", "at least 1"),
    ]


def test_an_unknown_mode_is_refused(problems: Problems, shop: str) -> None:
    """The modes are told."""
    (problem,) = problems(
        shop + "[health_checks.x]\nkind = 'exec'\ncommand = ['true']\nmode = 'warn'"
    )

    assert problem == Problem(
        "health_checks.x.mode", "unknown value", "one of disabled, enforce, observe", '"warn"'
    )


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ("[fleet]\nnmae = 'shop'", "fleet.nmae"),
        ("[hosts.x]\nchannel = 'stable'\ntag = ['web']", "hosts.x.tag"),
        ("[policies.x]\non_failure = 'halt'", "policies.x.on_failure"),
        ("[tags.web]\ncolour = 'red'", "tags.web.colour"),
        ("[budget]\nmax_in_flight = 1", "budget"),
        ("[[budgets]]\nselector = {tag = ['web']}\nmax_in_flight = 1", "budgets[0].selector.tag"),
    ],
)
def test_an_unknown_key_is_refused_wherever_it_stands(
    problems: Problems, shop: str, table: str, path: str
) -> None:
    """A misspelt key does not pass for an absent one."""
    assert (path, "unknown key") in [(it.path, it.message) for it in problems(shop + table)]


@pytest.mark.parametrize(
    ("wave", "found"),
    [("soak_minutes = 1", "neither"), ("rest = true\nselector = { all = true }", "both")],
)
def test_a_wave_says_once_which_hosts_it_has(
    problems: Problems, shop: str, wave: str, found: str
) -> None:
    """A wave has a selector or the rest, not neither and not both."""
    (problem,) = problems(shop.replace("rest = true", wave))

    assert (problem.path, problem.found) == ("policies.canary-first.waves[1]", found)


def test_a_name_with_dots_is_quoted_in_paths(problems: Problems, shop: str) -> None:
    """A path can be read back as the TOML that leads to the place."""
    (problem,) = problems(shop + '[hosts."web.example.com"]\nchannel = "stabel"')

    assert problem.path == 'hosts."web.example.com".channel'


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The path that could not be read is told."""
    with pytest.raises(DeclarationError) as caught:
        check(tmp_path / "fleet.toml")

    (problem,) = caught.value.problems
    assert problem.place == Place(str(tmp_path / "fleet.toml"))
    assert problem.found == "No such file or directory"
