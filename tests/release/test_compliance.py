"""Compliance and pins: what the scopes of a host come to, and what they may not say."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nixfleet_proto.agent_event import ProbeMode
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import ControlOverride, EvidenceProbe, ExecProbe
from nixfleet_release import CheckedFleet, DeclarationError, Problem, check
from nixfleet_state_machine.scopes.merge import Scope, ScopeKind

Checked = Callable[[str], CheckedFleet]
Problems = Callable[[str], tuple[Problem, ...]]

NIS2 = """
[channels.stable.compliance.nis2]
evidence_path = "/var/lib/evidence/nis2.json"
interval_seconds = 600
max_age_secs = 7200
"""
CHECK = "compliance-nis2"


def told(problems: tuple[Problem, ...]) -> list[tuple[str, str]]:
    return [(problem.path, problem.message) for problem in problems]


def nis2(fleet: CheckedFleet, host: str) -> EvidenceProbe:
    check = fleet.health_checks[host][CHECK]
    assert isinstance(check, EvidenceProbe)
    return check


# --- frameworks ----------------------------------------------------------------------------------


def test_a_framework_of_a_channel_is_an_evidence_check_on_its_hosts(
    checked: Checked, shop: str
) -> None:
    """Every host of the channel has it, enforced if nothing else is said; no other host does."""
    fleet = checked(
        shop
        + NIS2
        + "[hosts.x]\nchannel = 'edge'\n[channels.edge]\npolicy = 'plain'\n[policies.plain]"
    )

    probe = EvidenceProbe("nis2", "/var/lib/evidence/nis2.json", 600, max_age_secs=7200)
    for host in ("web-01", "web-02", "db-01"):
        assert fleet.health_checks[host] == {CHECK: probe}
    assert fleet.health_checks["x"] == {}


def test_compliance_merges_field_by_field(checked: Checked, shop: str) -> None:
    """The most specific mode, the most specific reason that is not empty, and overrides control by control."""
    fleet = checked(
        shop
        + NIS2
        + """
        mode = "enforce"
        reason = "the law"
        [compliance.nis2.control_overrides]
        art-20 = { mode = "observe", reason = "from the fleet" }
        art-21 = { mode = "observe" }
        [tags.web.compliance.nis2]
        mode = "observe"
        control_overrides.art-21 = { mode = "disabled", reason = "no such thing here" }
        [hosts.web-01.compliance.nis2]
        reason = ""
        """
    )

    web, db = nis2(fleet, "web-01"), nis2(fleet, "db-01")
    # A channel is more specific than a tag, so its mode counts on both; an empty reason says nothing.
    assert (web.mode, web.reason) == (ProbeMode.ENFORCE, "the law")
    assert web.control_overrides == {
        "art-20": ControlOverride(ProbeMode.OBSERVE, "from the fleet"),
        "art-21": ControlOverride(ProbeMode.DISABLED, "no such thing here"),
    }
    assert db.control_overrides["art-21"] == ControlOverride(ProbeMode.OBSERVE)


def test_a_host_refines_the_mode_of_its_channel(checked: Checked, shop: str) -> None:
    """A field that the host does not give stays as the channel has it."""
    fleet = checked(
        shop + NIS2 + "reason = 'the law'\n[hosts.db-01.compliance.nis2]\nmode = 'observe'"
    )

    assert nis2(fleet, "db-01").mode is ProbeMode.OBSERVE
    assert nis2(fleet, "db-01").reason == "the law"
    assert nis2(fleet, "web-01").mode is ProbeMode.ENFORCE


def test_a_frameworks_check_merges_as_any_other(checked: Checked, shop: str) -> None:
    """It is of the channel's scope: a host's own check of that name shadows it, with a warning."""
    fleet = checked(
        shop + NIS2 + f"[hosts.db-01.health_checks.{CHECK}]\nkind = 'exec'\ncommand = ['true']"
    )

    assert fleet.health_checks["db-01"] == {CHECK: ExecProbe(("true",))}
    assert [str(it) for it in fleet.warnings] == [
        f"db-01: health check {CHECK} of host db-01 shadows that of channel stable"
    ]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("[compliance.nis3]\nmode = 'observe'", "compliance.nis3", "no such framework"),
        (
            "[hosts.x]\nchannel = 'edge'\n[channels.edge]\npolicy = 'plain'\n[policies.plain]\n"
            "[hosts.x.compliance.nis2]\nmode = 'observe'",
            "hosts.x.compliance.nis2",
            "applies to no host",
        ),
        (
            "[tags.web.compliance.nis2]\nmode = 'observe'\n[tags.canary.compliance.nis2]\nmode = 'observe'",
            "tags.web.compliance.nis2.mode",
            "declared by two tags of one host",
        ),
        (
            f"[channels.stable.health_checks.{CHECK}]\nkind = 'exec'\ncommand = ['true']",
            f"channels.stable.health_checks.{CHECK}",
            "duplicate name in one scope",
        ),
        (
            "[channels.stable.compliance.cis]",
            "channels.stable.compliance.cis.evidence_path",
            "missing",
        ),
        (
            "[channels.stable.compliance.cis]\nevidence_path = 'cis.json'",
            "channels.stable.compliance.cis.evidence_path",
            "not an absolute path",
        ),
        (
            "[channels.stable.compliance.cis]\nevidence_path = '/c'\ninterval_seconds = 0",
            "channels.stable.compliance.cis.interval_seconds",
            "out of range",
        ),
        (
            "[channels.stable.compliance.cis]\nevidence_path = '/c'\nmax_age_secs = 0",
            "channels.stable.compliance.cis.max_age_secs",
            "out of range",
        ),
        ("[compliance.nis2]\nmode = 'enforced'", "compliance.nis2.mode", "unknown value"),
        (
            "[compliance.nis2]\nevidence_path = '/x'",
            "compliance.nis2.evidence_path",
            "unknown key",
        ),
        (
            "[compliance.nis2.control_overrides.art-21]\nreason = 'x'",
            "compliance.nis2.control_overrides.art-21.mode",
            "missing",
        ),
    ],
)
def test_compliance_that_makes_no_sense_is_refused(
    problems: Problems, shop: str, text: str, path: str, message: str
) -> None:
    """Each mistake is one problem at its place."""
    assert told(problems(shop + NIS2 + text)) == [(path, message)]


# --- pins ----------------------------------------------------------------------------------------

MAY, JUNE = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)


def pinned(tmp_path: Path, text: str, now: datetime | None = None) -> dict[str, tuple[str, Scope]]:
    (tmp_path / "fleet.toml").write_text(text)
    fleet = check(tmp_path / "fleet.toml", now=now)
    return {host: (pin.value.commit, pin.scope) for host, pin in fleet.pins.items()}


def test_a_hosts_pin_counts_before_a_tags_and_that_before_a_channels(
    tmp_path: Path, shop: str
) -> None:
    """For pins, a tag is more specific than a channel."""
    text = shop + "[channels.stable.pin]\ncommit = 'c'\n[tags.web.pin]\ncommit = 't'\n"

    assert pinned(tmp_path, text + "[hosts.web-01.pin]\ncommit = 'h'") == {
        "db-01": ("c", Scope(ScopeKind.CHANNEL, "stable")),
        "web-01": ("h", Scope(ScopeKind.HOST, "web-01")),
        "web-02": ("t", Scope(ScopeKind.TAG, "web")),
    }


def test_an_expired_pin_drops_out(tmp_path: Path, shop: str) -> None:
    """From the moment on that it expires, the less specific one counts, and a warning says so."""
    text = shop + "[hosts.db-01.pin]\ncommit = 'h'\nexpires_at = 2026-06-01T02:00:00+02:00\n"

    assert list(pinned(tmp_path, text, MAY)) == ["db-01"]
    assert pinned(tmp_path, text, JUNE) == {}
    (warning,) = check(tmp_path / "fleet.toml", now=JUNE).warnings
    assert str(warning).startswith("the pin of host db-01 to h expired at 2026-06-01")


def test_two_pinned_tags_of_one_host_are_refused(problems: Problems, shop: str) -> None:
    """Which of them counts would be a guess, also where the host has a pin of its own."""
    text = "[tags.web.pin]\ncommit = 'a'\n[tags.canary.pin]\ncommit = 'a'\n"

    assert told(problems(shop + text)) == [("tags.web.pin", "declared by two tags of one host")]


def test_an_expired_pin_is_no_rival(tmp_path: Path, shop: str) -> None:
    """Of two pinned tags, one that has expired is not in the way of the other."""
    text = shop + "[tags.web.pin]\ncommit = 'a'\n[tags.canary.pin]\ncommit = 'b'\n"
    text += "expires_at = 2026-06-01T00:00:00Z"

    assert pinned(tmp_path, text, JUNE)["web-01"][0] == "a"
    with pytest.raises(DeclarationError):
        pinned(tmp_path, text, MAY)


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("[pin]\ncommit = 'a'", "pin", "unknown key"),
        ("[tags.web.pin]", "tags.web.pin.commit", "missing"),
        ("[tags.web.pin]\ncommit = ''", "tags.web.pin.commit", "empty"),
        ("[tags.web]\npin = 'a1b2'", "tags.web.pin", "cannot be used"),
        ("[tags.wbe.pin]\ncommit = 'a'", "tags.wbe", "no such tag"),
        (
            "[tags.web.pin]\ncommit = 'a'\nexpires_at = '2026-06-01'",
            "tags.web.pin.expires_at",
            "cannot be used",
        ),
        (
            "[tags.web.pin]\ncommit = 'a'\nexpires_at = 2026-06-01T00:00:00",
            "tags.web.pin.expires_at",
            "without an offset",
        ),
        ("[tags.web.pin]\ncommit = 'a'\nexpires = 1", "tags.web.pin.expires", "unknown key"),
    ],
)
def test_a_pin_that_makes_no_sense_is_refused(
    problems: Problems, shop: str, text: str, path: str, message: str
) -> None:
    """Each mistake is one problem at its place."""
    assert told(problems(shop + text)) == [(path, message)]


def test_what_is_said_of_compliance_is_part_of_the_closure(checked: Checked, shop: str) -> None:
    """An empty override map is the default, so checks without any are spelt as before."""
    fleet = checked(shop + NIS2)

    assert nis2(fleet, "db-01").control_overrides == FrozenMap()
