"""Hosts and channels that are declared and disabled: they are in no rollout, and shown."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from attrs import evolve

from nixfleet_proto.codec import decode_fleet, encode_fleet
from nixfleet_proto.fleet import Edge, FleetResolved, Meta
from nixfleet_proto.signing import SigningKey
from nixfleet_release import (
    CheckedFleet,
    DeclarationError,
    Fleet,
    Problem,
    import_fleet,
    sign_release,
)
from nixfleet_release.build.project import project, project_channel
from nixfleet_release.build.resolve import resolve
from nixfleet_release.publish.changes import ReleaseContent, changes
from nixfleet_state_machine.planner.terms import RolloutTerms

Checked = Callable[[str], CheckedFleet]
Problems = Callable[[str], tuple[Problem, ...]]

META = Meta(signed_at=datetime(2026, 5, 16, 1, tzinfo=UTC))
HASH = "0" * 64
OFF = "\n[hosts.web-09]\nchannel = 'stable'\ntags = ['web']\nenabled = false\n"
OFFICE = """
[hosts.office-01]
channel = "office"
[channels.office]
policy = "plain"
[policies.plain]
"""
BUDGETS = """
[[budgets]]
selector = "tags:web"
max_in_flight_pct = 50
[[budgets]]
selector = "tags:web & !hosts:web-01,web-02"
max_in_flight = 1
"""


def resolved(checked: CheckedFleet) -> FleetResolved:
    enabled = checked.declaration.enabled_hosts_of
    closures = {
        name: f"closure-{name}" for channel in checked.declaration.channels for name in enabled(channel)
    }  # fmt: skip
    return resolve(checked, closures, META, channel_ref="a1b2c3")


def test_a_disabled_host_is_in_no_wave_manifest_or_budget(checked: Checked, shop: str) -> None:
    """It needs no closure, and what is signed for the others is as if it were not declared."""
    with_it = resolved(checked(shop + BUDGETS + OFF))

    manifest = project_channel(with_it, "stable", "a1b2c3", HASH)

    assert [each.hostname for each in manifest.host_set] == ["db-01", "web-01", "web-02"]
    assert [each.hosts for each in manifest.disruption_budgets] == [("web-01", "web-02")]
    assert "web-09" not in {name for wave in with_it.waves["stable"] for name in wave.hosts}


def test_a_disabled_host_stays_in_the_signed_fleet(checked: Checked, shop: str) -> None:
    """It is carried as disabled and without a closure, also where one was given."""
    declared = checked(shop + OFF)
    closures = {name: f"closure-{name}" for name in declared.declaration.hosts}

    host = resolve(declared, closures, META).hosts["web-09"]

    assert (host.enabled, host.closure_hash, host.tags) == (False, None, ("web",))


def test_what_is_enabled_is_written_as_before(checked: Checked, shop: str) -> None:
    """The field is left out when it is true, and read as true when it is absent."""
    fleet = resolved(checked(shop + OFF))
    written = encode_fleet(fleet)

    assert written.count(b'"enabled":false') == 1
    assert b'"enabled":true' not in written
    assert decode_fleet(written) == fleet
    assert import_fleet(written).fleet == fleet


def test_a_disabled_channel_releases_nothing(checked: Checked, shop: str) -> None:
    """It has no waves and no manifest, and its hosts need no closures."""
    off = OFFICE.replace("[policies", "enabled = false\n[policies")

    fleet = resolved(checked(shop + off))

    assert fleet.waves["office"] == ()
    assert fleet.hosts["office-01"].closure_hash is None
    assert [each.channel for each in project(fleet, "a1b2c3", HASH)] == ["stable"]
    assert not fleet.channels["office"].enabled


def test_a_channel_whose_hosts_are_all_disabled_is_a_warning(checked: Checked, shop: str) -> None:
    """It releases nothing until one of them is enabled."""
    fleet = checked(
        shop + OFFICE.replace('"office"\n[channels', '"office"\nenabled = false\n[channels')
    )

    assert list(map(str, fleet.warnings)) == [
        "channel office has no enabled host: nothing is released for it"
    ]
    assert resolved(fleet).waves["office"] == ()


def test_an_edge_from_a_disabled_host_does_not_hold(checked: Checked, shop: str) -> None:
    """The gated host no longer waits, which is a warning; an edge to a disabled host is none."""
    edges = "[[edges]]\ngates = 'web-09'\ngated = 'db-01'\n[[edges]]\ngates = 'web-01'\ngated = 'web-09'\n"

    fleet = checked(shop + edges + OFF)

    assert resolved(fleet).edges == ()
    assert list(map(str, fleet.warnings)) == [
        "db-01 does not wait for web-09, which is disabled: the edge has no effect until web-09 is enabled"
    ]


def test_an_edge_from_a_disabled_channel_does_not_hold(checked: Checked, shop: str) -> None:
    """A channel that releases nothing is not waited for."""
    edge = "[[channel_edges]]\ngates = 'office'\ngated = 'stable'\n"
    off = OFFICE.replace("[policies", "enabled = false\n[policies")

    fleet = checked(shop + off + edge)

    assert resolved(fleet).channel_edges == ()
    assert "stable does not wait for office" in str(fleet.warnings[0])


def test_edges_of_what_is_disabled_do_not_hold_where_they_are_signed(
    checked: Checked, shop: str
) -> None:
    """A fleet that was resolved elsewhere may still name them: the terms of a rollout leave them out."""
    edges = "[[channel_edges]]\ngates = 'office'\ngated = 'stable'\n"
    off = OFFICE.replace("[policies", "enabled = false\n[policies")
    fleet = evolve(
        resolved(checked(shop + off + OFF + edges)),
        edges=(Edge("web-09", "db-01"), Edge("web-01", "db-01")),
        channel_edges=(Edge("office", "stable"),),
    )

    terms = RolloutTerms.of_values(project_channel(fleet, "stable", "a1b2c3", HASH), fleet)

    assert terms.host_edges == (Edge("web-01", "db-01"),)
    assert terms.predecessors == ()


def test_a_wave_whose_hosts_are_all_disabled_is_refused(problems: Problems, shop: str) -> None:
    """Without its canary the release would go to everybody at once."""
    (problem,) = problems(shop.replace('"web", "canary"]', '"web", "canary"]\nenabled = false'))

    assert (problem.path, problem.message) == ("policies.canary-first.waves[0]", "empty wave")
    assert (problem.expected, problem.found) == (
        "an enabled host of channel stable",
        "none (web-01 disabled)",
    )


def test_an_imported_wave_with_a_disabled_host_is_refused(checked: Checked, shop: str) -> None:
    """A resolved fleet that contradicts itself is refused with its path."""
    fleet = resolved(checked(shop))
    off = evolve(
        fleet, hosts=fleet.hosts.with_item("web-01", evolve(fleet.hosts["web-01"], enabled=False))
    )
    with pytest.raises(DeclarationError) as caught:
        import_fleet(encode_fleet(off))

    (problem,) = caught.value.problems
    assert (problem.path, problem.message) == (
        "$.waves.stable[0].hosts[0]",
        "a disabled host in a wave",
    )


def test_what_a_release_disables_is_listed_as_that(checked: Checked, shop: str) -> None:
    """A diff says who is disabled and who is enabled again, and not that closures vanish."""
    key = SigningKey(b"\1" * 32)

    def content(text: str) -> ReleaseContent:
        declared = checked(shop + text)
        closures = {name: f"closure-{name}" for name in declared.declaration.hosts}
        at = datetime(2026, 5, 16, 1, tzinfo=UTC)
        return ReleaseContent.by(
            sign_release(declared, closures, channel_ref="r1", signed_at=at, key=key)
        )

    on = content(OFF.replace("false", "true") + OFFICE)
    off = content(OFF + OFFICE.replace("[policies", "enabled = false\n[policies"))

    assert "  web-09 is disabled: it keeps its closure and gets no more dispatches" in changes(
        on, off, lambda _: None
    )
    assert "  office@r1 is disabled: an open rollout continues, and none follows" in changes(
        on, off, lambda _: None
    )
    assert "  office is disabled" in changes(on, off, lambda _: None)
    assert "  web-09 is enabled again, with closure-web-09" in changes(off, on, lambda _: None)
    assert not any("no closure" in line for line in changes(on, off, lambda _: None))


def test_python_declares_what_is_disabled_as_toml_does(checked: Checked) -> None:
    """The builder's hosts and channels have the same key."""
    built = (
        Fleet()
        .host("a", channel="stable", enabled=False)
        .host("b", channel="stable")
        .channel("stable", policy="p", enabled=False)
        .policy("p")
    )
    written = """
        [hosts]
        a = { channel = "stable", enabled = false }
        b = { channel = "stable" }
        [channels.stable]
        policy = "p"
        enabled = false
        [policies.p]
        """

    assert built.check().declaration == checked(written).declaration
