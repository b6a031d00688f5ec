"""What a declaration cannot say is refused by name, with what is supported instead."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nixfleet_proto.codec.json_text import canonical_bytes
from nixfleet_proto.health_check import SystemdProbe
from nixfleet_release import (
    CheckedFleet,
    DeclarationError,
    Fleet,
    Problem,
    closures_at,
    name_closures,
)
from nixfleet_release.check.import_resolved import import_fleet
from nixfleet_state_machine.scopes.merge import FLEET
from tests.release.test_public_artefacts import FLEET as PUBLIC

Checked = Callable[[str], CheckedFleet]
Problems = Callable[[str], tuple[Problem, ...]]

POLICY = "\n[policies.canary-first]\n"
HASH = "0123456789abcdfghijklmnpqrsvwxyz"


@pytest.mark.parametrize("strategy", ["canary", "linear", "exponential", "all-at-once"])
def test_a_strategy_is_refused_with_the_waves_that_express_it(
    problems: Problems, shop: str, strategy: str
) -> None:
    """Strategies are lists of waves with limits; the message shows one."""
    (problem,) = problems(shop.replace("[[pol", f'{POLICY}strategy = "{strategy}"\n[[pol', 1))

    assert (problem.path, problem.message) == ("policies.canary-first.strategy", "not supported")
    assert "canary, linear and exponential are lists of waves with limits" in problem.expected
    assert problem.place is not None


def test_the_strategy_of_all_policies_may_be_written(checked: Checked, shop: str) -> None:
    """`strategy = "waves"` says what is so anyway."""
    written = shop.replace("[[pol", f'{POLICY}strategy = "waves"\n[[pol', 1)

    assert checked(written).declaration == checked(shop).declaration


@pytest.mark.parametrize(
    ("text", "path", "instead"),
    [
        ("healthGate = { systemdFailedUnits.max = 0 }", "healthGate", 'kind = "systemd"'),
        ("health_gate.systemd_failed_units.max = 0", "health_gate", 'kind = "systemd"'),
    ],
)
def test_a_health_gate_is_refused_with_the_probe_that_does_it(
    problems: Problems, shop: str, text: str, path: str, instead: str
) -> None:
    """A probe is declared in a scope and seen by hosts; a gate in a policy would be a second way to say it."""
    (problem,) = problems(shop.replace("[[pol", f"{POLICY}{text}\n[[pol", 1))

    assert (problem.path, problem.message) == (f"policies.canary-first.{path}", "not supported")
    assert instead in problem.expected


def test_an_interval_that_agents_have_themselves_is_refused(problems: Problems, shop: str) -> None:
    """How often a host is compared is in the configuration of its agent."""
    (problem,) = problems(shop.replace("policy =", "reconcile_interval_minutes = 5\npolicy =", 1))

    assert problem.path == "channels.stable.reconcile_interval_minutes"
    assert problem.expected.startswith("ticks.heartbeat_seconds")


def test_an_unknown_key_is_not_offered_what_is_unsupported(problems: Problems, shop: str) -> None:
    """The keys that a policy may have are those that do something."""
    (problem,) = problems(shop.replace("[[pol", f"{POLICY}x = 1\n[[pol", 1))

    keys = "deadlines, max_failure_pct, max_failures, on_health_failure, recall, retry, waves"
    assert problem.expected == f"one of {keys}"


def test_what_has_no_effect_in_a_resolved_fleet_is_kept_and_reported() -> None:
    """The bytes stay those of the input; strategy and health gate are named with what acts instead."""
    public = canonical_bytes({**PUBLIC, "waves": {}})  # type: ignore[dict-item]  # It replaces a map of texts.

    imported = import_fleet(public)

    assert imported.canonical == public
    assert imported.without_effect == (
        '$.rolloutPolicies.canary.strategy: "canary" has no effect: the waves decide',
        "$.rolloutPolicies.canary.healthGate: has no effect: declare a health check of kind systemd",
    )


def test_a_systemd_probe_is_declared_as_other_probes(
    checked: Checked, problems: Problems, shop: str
) -> None:
    """It has a limit and a time-out, in TOML and in Python; negative limits are refused."""
    text = '[health_checks.units]\nkind = "systemd"\nmax_failed_units = 2\ntimeout_secs = 5\n'

    declared = checked(text + shop).declaration.health_checks[FLEET]
    built = Fleet().health_check("units", SystemdProbe(2, 5)).host("a", channel="c")
    built = built.channel("c", policy="p").policy("p")
    (problem,) = problems(text.replace("= 2", "= -1") + shop)

    assert declared == {"units": SystemdProbe(2, 5)}
    assert built.check().declaration.health_checks[FLEET] == declared
    assert problem.path == "health_checks.units.max_failed_units"


def system(directory: Path, platform: str) -> Path:
    """A tree with what a NixOS system has of its platform."""
    directory.mkdir()
    (directory / "nixos-version").write_text("25.11")
    (directory / "system").write_text(platform)
    return directory


def test_a_system_for_another_platform_is_refused(
    checked: Checked, shop: str, tmp_path: Path
) -> None:
    """A host gets nothing that its processor cannot run; a plain tree is for any platform."""
    fleet = checked(shop)
    good = system(tmp_path / f"{HASH}-web-01", "x86_64-linux")
    bad = system(tmp_path / f"{HASH}-web-02", "aarch64-linux\n")
    (tmp_path / "db-01" / "system").mkdir(parents=True)

    with pytest.raises(DeclarationError) as of_paths:
        closures_at(fleet, {"web-01": good, "web-02": bad})
    with pytest.raises(DeclarationError) as of_trees:
        name_closures(fleet, {"web-01": good, "web-02": bad, "db-01": tmp_path / "db-01"})

    for caught in (of_paths, of_trees):
        (problem,) = caught.value.problems
        assert (problem.path, problem.message) == ("closures.web-02", "built for another platform")
        assert problem.found == '"aarch64-linux"'
