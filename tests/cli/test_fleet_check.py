"""`nixfleet fleet check`: every problem, or what a declaration comes to."""

import json
from pathlib import Path

import pytest

from nixfleet_proto.codec import decode_health_checks
from tests.cli.conftest import Invoke

SHOP = """\
[fleet]
name = "shop"

[hosts.web-01]
channel = "stable"
tags = ["canary"]

[hosts.web-02]
channel = "stable"

[hosts.web-02.health_checks.up]
kind = "exec"
command = ["true"]

[channels.stable]
policy = "canary-first"

[policies.canary-first]
on_health_failure = "rollback-and-halt"

[[policies.canary-first.waves]]
selector = { tags = ["canary"] }
soak_minutes = 5

[[policies.canary-first.waves]]
rest = true

[[budgets]]
selector = { all = true }
max_in_flight = 2
max_in_flight_pct = 50

[[edges]]
gates = "web-01"
gated = "web-02"
reason = "one after the other"

[health_checks.up]
kind = "exec"
command = ["true"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "fleet.toml"
    file.write_text(SHOP)
    return file


def test_a_good_fleet_is_summed_up(nixfleet: Invoke, file: Path) -> None:
    """Channels come with their waves, then budgets, orders and health checks; shadowings are warnings."""
    checked = nixfleet("fleet", "check", file)

    assert checked.exit_code == 0, checked.output
    assert checked.stdout == (
        "fleet shop: 2 hosts in 1 channel\n"
        "channel stable: policy canary-first, on failure rollback-and-halt\n"
        "  wave 0, soak 5 min, 1 host: web-01\n"
        "  wave 1, soak 0 min, 1 host: web-02\n"
        "  at worst 1 of 2 hosts: 0 tolerated + 1 in flight\n"
        "budget all: at most 2 and 50 % of 2 hosts in flight\n"
        "order: web-01 before web-02 (one after the other)\n"
        "health checks: 2 over all hosts\n"
    )
    assert checked.stderr.startswith("warning: web-02: health check up of host web-02 shadows")


@pytest.mark.parametrize(
    ("budget", "line"),
    [
        (
            "max_in_flight = 2\nramp = { start = 1 }\nmax_per_minute = 1",
            "budget all: at most 2 of 2 hosts in flight, growing from 1 by a factor of 2, 1 a minute",
        ),
        ("max_per_minute = 2", "budget all: any number of 2 hosts in flight, 2 a minute"),
    ],
)
def test_the_pace_of_a_budget_is_summed_up(
    nixfleet: Invoke, file: Path, budget: str, line: str
) -> None:
    """It follows the limit."""
    file.write_text(SHOP.replace("max_in_flight = 2\nmax_in_flight_pct = 50", budget))

    assert line in nixfleet("fleet", "check", file).stdout.splitlines()


def test_every_problem_is_told_with_its_path(nixfleet: Invoke, file: Path) -> None:
    """A fleet with several mistakes is refused once, with all of them."""
    file.write_text(SHOP.replace('"canary-first"', '"bold"').replace("max_in_flight = 2", ""))
    file.write_text(file.read_text().replace("pct = 50", "pct = 0"))

    checked = nixfleet("fleet", "check", file)

    assert (checked.exit_code, checked.stdout) == (1, "")
    assert "the fleet declaration has 2 problems:" in checked.stderr
    assert f"  {file}:16:10: channels.stable.policy: no such policy: " in checked.stderr
    assert f"  {file}:31:21: budgets[0].max_in_flight_pct: out of range: " in checked.stderr


def test_a_missing_file_is_a_usage_error(nixfleet: Invoke, tmp_path: Path) -> None:
    """A path that leads nowhere is the caller's mistake, not the fleet's."""
    checked = nixfleet("fleet", "check", tmp_path / "none.toml")

    assert checked.exit_code == 2
    assert "does not exist" in checked.stderr


def test_what_is_disabled_is_shown(nixfleet: Invoke, file: Path) -> None:
    """Disabled hosts are listed, and are in no wave; a disabled channel releases nothing."""
    off = '[hosts.web-03]\nchannel = "stable"\nenabled = false\n[hosts.lab-01]\nchannel = "lab"\n'
    file.write_text(SHOP + off + '[channels.lab]\npolicy = "canary-first"\nenabled = false\n')

    checked = nixfleet("fleet", "check", file)
    explained = nixfleet("fleet", "explain", "web-03", "--fleet", file)
    of_channel = nixfleet("fleet", "explain", "lab-01", "--fleet", file)

    assert checked.stdout.splitlines()[:4] == [
        "fleet shop: 4 hosts in 2 channels",
        "disabled, so in no rollout: lab-01, web-03",
        "channel lab: disabled, nothing is released",
        "channel stable: policy canary-first, on failure rollback-and-halt",
    ]
    assert "web-03" not in "".join(checked.stdout.splitlines()[4:])
    assert explained.stdout.splitlines()[0] == (
        "host web-03: channel stable, tags none; disabled, so it is in no rollout"
    )
    assert "its channel lab is disabled, so it is in no rollout" in of_channel.stdout


def test_waves_by_limit_are_counted_and_with_a_ref_named(nixfleet: Invoke, file: Path) -> None:
    """Without the ref nobody knows who is first; with it, the names are those of the release."""
    file.write_text(
        SHOP.replace('{ tags = ["canary"] }', '"all"\nlimit = 1').replace("[[edges]]", "[[x]]")
    )
    file.write_text(file.read_text().partition("[[x]]")[0])

    counted = nixfleet("fleet", "check", file)
    named = nixfleet("fleet", "check", file, "--ref", "a1b2c3")

    assert "  wave 0, soak 5 min, limit 1, 1 host: chosen by the ref\n" in counted.stdout
    assert "  wave 0, soak 5 min, limit 1, 1 host: web-0" in named.stdout


POLICY = """
[hosts]
web-01.channel = "stable"
web-02.channel = "stable"
web-03.channel = "stable"
[channels.stable]
policy = "careful"
on_drift = "restore"
[policies.careful]
max_failures = 1
[policies.careful.deadlines]
ack = { minutes = 30, then = "skip" }
convergence = { minutes = 60, then = "fail" }
[policies.careful.retry]
attempts = 3
backoff_seconds = 120
"""


def test_a_policy_is_shown_with_what_it_tolerates_and_costs(
    nixfleet: Invoke, tmp_path: Path
) -> None:
    """Who may fail in each wave, until when is waited, how often is tried, and the worst case."""
    file = tmp_path / "fleet.toml"
    file.write_text(POLICY)

    checked = nixfleet("fleet", "check", file)
    channel = json.loads(nixfleet("fleet", "check", file, "--json").stdout)["channels"]["stable"]

    assert checked.stdout == (
        "fleet (unnamed): 3 hosts in 1 channel\n"
        "channel stable: policy careful, on failure halt\n"
        "  wave 0, soak 0 min, 3 hosts, 1 may fail: web-01, web-02, web-03\n"
        "  deadlines: ack 30 min then skip, convergence 60 min then fail\n"
        "  attempts: 3, the second 120 s after a failure, each wait 2 times the last\n"
        "  on drift: restore\n"
        "  at worst 3 of 3 hosts: 1 tolerated + 2 in flight\n"
        "health checks: 0 over all hosts\n"
    )
    assert channel["blastRadius"] == {"hosts": 3, "worst": 3, "tolerated": 1, "inFlight": 2}
    assert channel["waves"][0]["allowedFailures"] == 1
    assert channel["deadlines"] == {
        "ack": {"minutes": 30, "then": "skip"},
        "convergence": {"minutes": 60, "then": "fail"},
    }
    assert channel["retry"] == {"attempts": 3, "backoffSeconds": 120, "factor": 2}
    assert channel["onDrift"] == "restore"


def test_a_policy_in_layers_is_explained_with_its_places(nixfleet: Invoke, tmp_path: Path) -> None:
    """A later layer overrides one number of a deadline, and both places are shown."""
    for name, text in {
        "base": POLICY,
        "site": "[policies.careful.deadlines.ack]\nminutes = 600\n",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "fleet.toml").write_text(text)
    (tmp_path / "fleet.toml").write_text('layers = ["base", "site"]\n')

    explained = nixfleet("fleet", "explain", "web-01", "-f", tmp_path / "fleet.toml")

    assert explained.exit_code == 0, explained.output
    (line,) = (it for it in explained.stdout.splitlines() if "ack.minutes" in it)
    assert line.startswith(
        f"    policies.careful.deadlines.ack.minutes: {tmp_path}/site/fleet.toml:2"
    )
    assert f", overrides {tmp_path}/base/fleet.toml:12" in line


def test_health_checks_are_written_for_closures_that_are_built_elsewhere(
    nixfleet: Invoke, file: Path, tmp_path: Path
) -> None:
    """A file a host, with the bytes that `release make` would put into its closure."""
    written = nixfleet("fleet", "health-checks", file, tmp_path / "checks", "--json")

    assert written.exit_code == 0, written.output
    assert json.loads(written.stdout)["hosts"] == ["web-01", "web-02"]
    checks = decode_health_checks((tmp_path / "checks" / "web-02.json").read_bytes())
    assert list(checks) == ["up"]


def test_health_checks_of_a_declaration_with_mistakes_are_not_written(
    nixfleet: Invoke, file: Path, tmp_path: Path
) -> None:
    """The mistakes are named, as `fleet check` does."""
    file.write_text(SHOP.replace('["true"]', "[]"))
    written = nixfleet("fleet", "health-checks", file, tmp_path / "checks")
    assert written.exit_code == 1
    assert "command" in written.stderr
    assert not (tmp_path / "checks").exists()
