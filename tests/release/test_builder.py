"""A fleet declared in Python: the same fleet as in TOML, the same problems, at the calls."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from nixfleet_proto.agent_event import OnHealthFailure, ProbeMode
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import (
    ControlOverride,
    EvidenceProbe,
    ExecProbe,
    HttpProbe,
    TcpProbe,
)
from nixfleet_release import DeclarationError, Fleet, check, on_channel, on_host, on_tag, rest, wave
from nixfleet_state_machine.scopes.expression import channels, hosts, tags, tags_any

TOML = """
[fleet]
name = "shop"

[hosts.web-01]
channel = "stable"
tags = ["web", "canary"]
pin = { commit = "a1b2", reason = "ticket 7", expires_at = 2099-01-01T00:00:00Z }

[hosts.web-02]
channel = "stable"
tags = ["web"]
platform = "aarch64-linux"
pubkey = "ssh-ed25519 AAAA"

[hosts.db-01]
channel = "edge"

[channels.stable]
policy = "canary-first"
signing_interval_minutes = 30
freshness_window_minutes = 90

[channels.edge]
policy = "all"

[policies.canary-first]
on_health_failure = "rollback-and-halt"
waves = [
    { selector = "tags:canary & !channel:edge", soak_minutes = 5 },
    { rest = true, not_before = 2026-06-01T08:00:00+02:00 },
]

[policies.all]

[[budgets]]
selector = "(tags:web | channel:edge,stable) & !hosts:web-02"
max_in_flight = 1
max_in_flight_pct = 50

[[edges]]
gates = "web-01"
gated = "web-02"
reason = "because"

[[channel_edges]]
gates = "stable"
gated = "edge"

[health_checks.up]
kind = "exec"
command = ["systemctl", "is-system-running"]
mode = "observe"
run_once = true
healthy = "latest"

[tags.web.health_checks.ok]
kind = "http"
url = "http://localhost/"
body_contains = "ok"

[channels.edge.health_checks.db]
kind = "tcp"
host = "localhost"
port = 5432

[hosts.db-01.health_checks.cis]
kind = "evidence"
framework = "cis"
evidence_path = "/var/lib/cis.json"
max_age_secs = 600
control_overrides.a1 = { mode = "observe" }

[channels.stable.compliance.nis2]
evidence_path = "/var/lib/nis2.json"
mode = "observe"

[tags.canary.compliance.nis2]
reason = "first"
control_overrides.art-21 = { mode = "disabled", reason = "n/a" }
"""

FLEET = (
    Fleet("shop")
    .pin(
        "a1b2", on=on_host("web-01"), reason="ticket 7", expires_at=datetime(2099, 1, 1, tzinfo=UTC)
    )
    .host("web-01", channel="stable", tags=["web", "canary"])
    .host(
        "web-02",
        channel="stable",
        tags=("web",),
        platform="aarch64-linux",
        pubkey="ssh-ed25519 AAAA",
    )
    .host("db-01", channel="edge")
    .channel(
        "stable",
        policy="canary-first",
        signing_interval_minutes=30,
        freshness_window_minutes=90,
    )
    .channel("edge", policy="all")
    .policy(
        "canary-first",
        wave(tags("canary") & ~channels("edge"), soak_minutes=5),
        rest(not_before=datetime(2026, 6, 1, 6, tzinfo=UTC)),
        on_health_failure=OnHealthFailure.ROLLBACK_AND_HALT,
    )
    .policy("all")
    .budget(
        (tags_any("web") | channels("stable", "edge")) & ~hosts("web-02"),
        max_in_flight=1,
        max_in_flight_pct=50,
    )
    .edge(gates="web-01", gated="web-02", reason="because")
    .channel_edge(gates="stable", gated="edge")
    .health_check(
        "up",
        ExecProbe(
            ("systemctl", "is-system-running"),
            mode=ProbeMode.OBSERVE,
            run_once=True,
            healthy="latest",
        ),
    )
    .health_check("ok", HttpProbe("http://localhost/", body_contains="ok"), on=on_tag("web"))
    .health_check("db", TcpProbe("localhost", 5432), on=on_channel("edge"))
    .health_check(
        "cis",
        EvidenceProbe(
            "cis",
            "/var/lib/cis.json",
            control_overrides=FrozenMap({"a1": ControlOverride(ProbeMode.OBSERVE)}),
            max_age_secs=600,
        ),
        on=on_host("db-01"),
    )
    .framework("nis2", channel="stable", evidence_path="/var/lib/nis2.json", mode=ProbeMode.OBSERVE)
    .compliance(
        "nis2",
        on=on_tag("canary"),
        reason="first",
        control_overrides={"art-21": ControlOverride(ProbeMode.DISABLED, "n/a")},
    )
)


def test_everything_that_toml_can_say_can_be_said_in_python(tmp_path: Path) -> None:
    """Both come to the same checks, pins and warnings, and to the same declaration but for how selectors are put."""
    (tmp_path / "fleet.toml").write_text(TOML)

    built, written = FLEET.check(), check(tmp_path / "fleet.toml")

    assert built.health_checks == written.health_checks
    assert built.pins == written.pins
    assert built.warnings == written.warnings
    for part in ("name", "hosts", "channels", "edges", "channel_edges", "frameworks"):
        assert getattr(built.declaration, part) == getattr(written.declaration, part)


def test_a_fleet_never_changes() -> None:
    """A call gives another fleet, so that several can be made from one beginning."""
    base = Fleet().channel("stable", policy="all").policy("all")

    one, other = base.host("a", channel="stable"), base.host("b", channel="stable")

    assert list(one.check().declaration.hosts) == ["a"]
    assert list(other.check().declaration.hosts) == ["b"]


def line_of(text: str) -> int:
    """The line of this file in which `text` is called first."""
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip().startswith(text))


def test_problems_are_told_at_the_calls_they_are_in() -> None:
    """Each has the file and line of its call, and the path that it would have in TOML."""
    fleet = (
        Fleet()
        .host("web-09", channel="stabel")
        .channel("stable", policy="all")
        .policy("all")
        .budget("tags:wbe", max_in_flight=0)
        .health_check("x", TcpProbe("localhost", 0), on=on_tag("nowhere"))
        .channel("stable", policy="another")
    )

    with pytest.raises(DeclarationError) as caught:
        fleet.check()

    assert [
        (it.path, it.place and (Path(it.place.file).name, it.place.line))
        for it in caught.value.problems
    ] == [
        (path, (Path(__file__).name, line_of(call)))
        for path, call in [
            ("hosts.web-09.channel", '.host("web-09"'),
            ("budgets[0].max_in_flight", '.budget("tags:wbe"'),
            ("budgets[0].selector", '.budget("tags:wbe"'),
            ("tags.nowhere", '.health_check("x"'),
            ("tags.nowhere.health_checks.x.port", '.health_check("x"'),
            ("channels.stable", '.channel("stable", policy="another"'),
        ]
    ]


def test_what_no_type_checker_saw_is_refused_as_in_toml() -> None:
    """Nothing is coerced: a value of the wrong type is a problem, and not an error of Python's."""
    wrong: dict[str, object] = {"channel": 3, "tags": "web"}
    fleet = Fleet().host("a", **wrong)  # type: ignore[arg-type]

    with pytest.raises(DeclarationError) as caught:
        fleet.check()

    assert {it.path for it in caught.value.problems} >= {"hosts.a.channel", "hosts.a.tags"}


def test_a_selector_that_cannot_be_read_is_refused() -> None:
    """The line is judged when the fleet is, with everything else."""
    fleet = (
        Fleet()
        .host("a", channel="c")
        .channel("c", policy="p")
        .policy("p")
        .budget("tags:web &", max_in_flight=1)
    )

    with pytest.raises(DeclarationError) as caught:
        fleet.check()

    assert [it.message for it in caught.value.problems] == ["not a selector"]
