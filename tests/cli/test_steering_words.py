"""Windows, freezes and guards, as the commands about declarations and releases show them: in words."""

import json
from pathlib import Path

import pytest

from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.trust import KeySlot, Operator, TrustRoot
from tests.cli.conftest import Invoke
from tests.cli.test_fleet_check import SHOP
from tests.cli.test_release import AT, CI, STRANGER, arguments, build

GUARDS = """bake_minutes = 30
approvals = { count = 1, from = ["ada", "bob"] }
waivable = ["bake"]

[[policies.canary-first.waves.checks]]
name = "errors"
judge = "metrics"
query = "rate"
comparison = "< 0.01"
passes = 3
"""
CALENDAR = """
[[calendar]]
name = "nightly"
kind = "allow"
selector = "tags:canary"
zone = "UTC"
repeat = "daily"
start = 22:00:00
minutes = 60
reason = "people sleep"
"""
GUARDED = SHOP.replace("rest = true\n", "rest = true\n" + GUARDS) + CALENDAR
WORDS = (
    "bakes 30 min (waivable)",
    "approved by 1 of ada, bob",
    "check errors by metrics: rate < 0.01, 3 in a row, 0 may fail, every 60 s",
)
NIGHTLY = "allows tags:canary, daily at 22:00 for 60 min (UTC), people sleep"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "fleet.toml"
    file.write_text(GUARDED)
    return file


@pytest.fixture
def place(tmp_path: Path, file: Path) -> Path:
    """What `release make` takes; ada and bob are operators."""
    for hostname in ("web-01", "web-02"):
        build(tmp_path, hostname, "1")
    (tmp_path / "store").mkdir()
    CI.save(tmp_path / "ci.key")
    operators = (Operator("ada", STRANGER.public_key), Operator("bob", CI.public_key))
    trust = TrustRoot(KeySlot(CI.public_key), operators=operators)
    (tmp_path / "trust.json").write_bytes(encode_trust_root(trust))
    return tmp_path


def test_fleet_check_says_what_lets_hosts_begin(nixfleet: Invoke, file: Path) -> None:
    """Each guard below its wave, and each entry of the calendar; in JSON too."""
    shown = nixfleet("fleet", "check", file).stdout
    for words in WORDS:
        assert f"    begins when: {words}\n" in shown
    assert f"calendar nightly: {NIGHTLY}\n" in shown
    value = json.loads(nixfleet("fleet", "check", file, "--json").stdout)
    assert value["calendar"] == [{"name": "nightly", "text": NIGHTLY}]
    assert [wave["guards"] for wave in value["channels"]["stable"]["waves"]] == [[], list(WORDS)]


def test_fleet_explain_says_what_a_host_waits_for(nixfleet: Invoke, file: Path) -> None:
    """The entries that select it, and the guards of its own wave."""
    canary = nixfleet("fleet", "explain", "web-01", "--fleet", file).stdout
    assert f"calendar nightly: {NIGHTLY}\n" in canary
    assert "begins when" not in canary
    other = nixfleet("fleet", "explain", "web-02", "--fleet", file).stdout
    assert "calendar" not in other
    for words in WORDS:
        assert f"wave 1 begins when: {words}\n" in other
    value = json.loads(nixfleet("fleet", "explain", "web-02", "-f", file, "--json").stdout)
    assert value["steering"] == [f"wave 1 begins when: {words}" for words in WORDS]


def test_judges_that_a_control_plane_does_not_have_are_refused(
    nixfleet: Invoke, file: Path, tmp_path: Path
) -> None:
    """By name, and with the one that was meant. Nothing else of the configuration is looked at."""
    config = tmp_path / "control-plane.toml"
    config.write_text('[judges.metrcs]\nkind = "prometheus"\nurl = "https://p.example.com"\n')
    refused = nixfleet("fleet", "check", file, "--config", config)
    assert refused.exit_code == 1
    assert (
        "policies.canary-first.waves[1].checks[0].judge: no such judge of the control plane: "
        'expected one of metrcs, found "metrics"; did you mean metrcs?'
    ) in refused.stderr
    config.write_text('[judges.metrics]\nkind = "prometheus"\nurl = "https://p.example.com"\n')
    assert nixfleet("fleet", "check", file, "--config", config).exit_code == 0
    config.write_text("judges = 3\n")
    assert nixfleet("fleet", "check", file, "--config", config).exit_code == 1


def test_release_check_says_what_lets_hosts_begin(nixfleet: Invoke, place: Path) -> None:
    """By rollout and wave, and the calendar."""
    made = nixfleet(*arguments(place), "--key", place / "ci.key", "--author", "ada")
    assert made.exit_code == 0, made.output
    check = ("release", "check", place / "releases", "--trust", place / "trust.json", "--at", AT)
    shown = nixfleet(*check).stdout
    for words in WORDS:
        assert f"stable@a1b2: wave 1 begins when: {words}\n" in shown
    assert f"calendar: nightly: {NIGHTLY}\n".replace("tags:", "tags:") in shown
    value = json.loads(nixfleet(*check, "--json").stdout)
    assert value["steering"]["calendar"] == [f"nightly: {NIGHTLY}"]


def test_guards_that_change_under_the_same_ref_are_named_in_words(
    nixfleet: Invoke, place: Path
) -> None:
    """With the place of each; nobody reads how a value is written in the program."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    (place / "fleet.toml").write_text(GUARDED.replace("bake_minutes = 30", "bake_minutes = 60"))
    again = arguments(place, at="2026-05-16T01:05:00Z")
    refused = nixfleet(*again, "--key", place / "ci.key")

    assert refused.exit_code == 1
    assert "wave_guards[1]: expected bakes 30 min (waivable); approved by 1 of ada, bob; " in (
        refused.stderr
    )
    assert "WaveGuards(" not in refused.output
    assert "PolicyWave(" not in refused.output


def test_an_author_who_is_no_operator_is_refused(nixfleet: Invoke, place: Path) -> None:
    """A name that is misspelt would keep nobody from approving a release of their own."""
    refused = nixfleet(*arguments(place), "--key", place / "ci.key", "--author", "adda")

    assert refused.exit_code == 1
    assert refused.stderr.strip() == (
        "Error: --author: no such operator in the trust file: expected one of ada, bob, "
        'found "adda"; did you mean ada?'
    )
    assert not (place / "releases").exists()
