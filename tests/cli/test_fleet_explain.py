"""`nixfleet fleet explain`: what a host lives by, where it is from, and what it shadows."""

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke

FLEET = """\
[hosts.web-01]
channel = "stable"
tags = ["web", "eu"]
pin = { commit = "a1b2", reason = "ticket 7", expires_at = 2099-01-01T00:00:00Z }

[hosts.web-01.compliance.nis2]
mode = "observe"

[channels.stable]
policy = "all"

[channels.stable.compliance.nis2]
evidence_path = "/var/lib/nis2.json"
mode = "enforce"

[policies.all]

[health_checks.up]
kind = "exec"
command = ["true"]

[tags.web.health_checks.up]
kind = "http"
url = "http://localhost/"
run_once = true

[channels.stable.health_checks.up]
kind = "tcp"
host = "localhost"
port = 80
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "fleet.toml"
    file.write_text(FLEET)
    return file


def test_every_value_of_a_host_is_told(nixfleet: Invoke, file: Path) -> None:
    """Each with the scope that it is from, and with what it shadows, the most specific first."""
    told = nixfleet("fleet", "explain", "web-01", "--fleet", file)

    assert told.exit_code == 0, told.output
    assert told.stdout == (
        "host web-01: channel stable, tags eu, web\n"
        "compliance.nis2.mode = observe\n"
        "    from host web-01\n"
        "    shadows enforce from channel stable\n"
        'health_checks.compliance-nis2 = evidence, framework = "nis2",'
        ' evidence_path = "/var/lib/nis2.json", mode = "observe"\n'
        "    from channel stable\n"
        'health_checks.up = tcp, host = "localhost", port = 80\n'
        "    from channel stable\n"
        '    shadows http, url = "http://localhost/", run_once = true from tag web\n'
        '    shadows exec, command = ["true"] from fleet\n'
        "pin = a1b2 until 2099-01-01 00:00:00Z (ticket 7)\n"
        "    from host web-01\n"
    )


@pytest.mark.parametrize(
    ("key", "lines"),
    [
        ("pin", ["pin = a1b2 until 2099-01-01 00:00:00Z (ticket 7)", "    from host web-01"]),
        (
            "compliance",
            [
                "compliance.nis2.mode = observe",
                "    from host web-01",
                "    shadows enforce from channel stable",
            ],
        ),
    ],
)
def test_one_key_or_the_beginning_of_some_is_told_alone(
    nixfleet: Invoke, file: Path, key: str, lines: list[str]
) -> None:
    """With a key, only what is under it is told."""
    told = nixfleet("fleet", "explain", "web-01", key, "-f", file)

    assert told.stdout.splitlines() == lines


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("web-1",), "web-01"),
        (("web-01", "health_checks.upp"), "health_checks.up"),
        (("web-01", "health_check"), "health_checks"),
    ],
)
def test_an_unknown_host_or_key_is_told_with_what_was_meant(
    nixfleet: Invoke, file: Path, arguments: tuple[str, ...], meant: str
) -> None:
    """A name that there is not is a finding, with the nearest that there is."""
    told = nixfleet("fleet", "explain", *arguments, "-f", file)

    assert (told.exit_code, told.stdout) == (1, "")
    assert f"did you mean {meant}?" in told.stderr


def test_a_fleet_with_problems_is_not_explained(nixfleet: Invoke, file: Path) -> None:
    """What would be told of it could be wrong."""
    file.write_text(FLEET.replace('"all"', '"none"'))

    told = nixfleet("fleet", "explain", "web-01", "-f", file)

    assert (told.exit_code, told.stdout) == (1, "")
    assert f"{file}:10:10: channels.stable.policy: no such policy" in told.stderr


def test_layers_are_shown_with_what_they_override(nixfleet: Invoke, tmp_path: Path) -> None:
    """Every value that applies to the host has its file and line, and those that it overrides."""
    (tmp_path / "fleet.toml").write_text('layers = ["base", "late"]\n')
    for layer, text in (("base", FLEET), ("late", "[hosts.web-01]\ntags = ['web']\n")):
        (tmp_path / layer).mkdir()
        (tmp_path / layer / "all.toml").write_text(text)

    told = nixfleet("fleet", "explain", "web-01", "--fleet", tmp_path)
    of_key = nixfleet("fleet", "explain", "web-01", "pin", "--fleet", tmp_path)
    checked = nixfleet("fleet", "check", tmp_path)

    assert (
        f"    hosts.web-01.tags: {tmp_path}/late/all.toml:2:8, overrides {tmp_path}/base/all.toml:3:8\n"
        in told.stdout
    )
    assert f"    channels.stable.policy: {tmp_path}/base/all.toml:10:10\n" in told.stdout
    assert of_key.stdout.endswith(
        "declared in layers:\n"
        f"    hosts.web-01.pin.commit: {tmp_path}/base/all.toml:4:18\n"
        f"    hosts.web-01.pin.reason: {tmp_path}/base/all.toml:4:35\n"
        f"    hosts.web-01.pin.expires_at: {tmp_path}/base/all.toml:4:60\n"
    )
    assert "layers, a later one overrides: base, late; 1 value overridden\n" in checked.stdout
