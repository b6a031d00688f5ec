"""Windows, freezes and guards, as the commands about declarations and releases show them: in words."""

import json
from pathlib import Path

import pytest

from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustRoot
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
    trust_file(tmp_path, ada=OperatorRole.OPERATE, bob=OperatorRole.OPERATE)
    return tmp_path


def trust_file(place: Path, **roles: OperatorRole) -> Path:
    """The trust file of the fleet, with these operators."""
    keys = {"ada": STRANGER.public_key, "bob": CI.public_key}
    operators = tuple(Operator(name, keys[name], role) for name, role in roles.items())
    file = place / "trust.json"
    file.write_bytes(encode_trust_root(TrustRoot(KeySlot(CI.public_key), operators=operators)))
    return file


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


TWO = GUARDED.replace("count = 1", "count = 2")
NEVER = "more approvals than operators who may approve, so the wave would never begin: expected at most 1"


def test_a_wave_that_needs_who_may_not_approve_is_refused_by_fleet_check(
    nixfleet: Invoke, file: Path, tmp_path: Path
) -> None:
    """With the names, why each of them may not, and how many approvals are possible."""
    file.write_text(TWO)
    path = "policies.canary-first.waves[1].approvals.count"
    stranger = trust_file(tmp_path, ada=OperatorRole.OPERATE)
    refused = nixfleet("fleet", "check", file, "--trust", stranger)
    assert refused.exit_code == 1
    why = '(ada may approve; "bob" is no operator of the trust file), found 2'
    assert f"{path}: {NEVER} {why}" in refused.stderr

    reader = trust_file(tmp_path, ada=OperatorRole.OPERATE, bob=OperatorRole.READ)
    refused = nixfleet("fleet", "check", file, "--trust", reader)
    why = "(ada may approve; bob has the role read, and approving takes operate), found 2"
    assert f"{path}: {NEVER} {why}" in refused.stderr

    both = trust_file(tmp_path, ada=OperatorRole.OPERATE, bob=OperatorRole.OPERATE)
    assert nixfleet("fleet", "check", file, "--trust", both).exit_code == 0
    assert nixfleet("fleet", "check", file).exit_code == 0


def test_a_release_whose_author_is_needed_to_approve_is_not_made(
    nixfleet: Invoke, place: Path
) -> None:
    """Of two who must approve one may not, and nothing is written; without an author it is made."""
    (place / "fleet.toml").write_text(TWO)
    make = (*arguments(place), "--key", place / "ci.key")
    refused = nixfleet(*make, "--author", "ada")
    assert refused.exit_code == 1
    why = "(bob may approve; ada is the author), found 2"
    assert f"waves.stable[1].guards.approvals.count: {NEVER} {why}" in refused.stderr
    assert not (place / "releases").exists()
    assert nixfleet(*make).exit_code == 0


def test_a_release_that_needs_who_left_is_refused_by_release_check(
    nixfleet: Invoke, place: Path
) -> None:
    """By the trust file that receivers have now, not the one that it was made with."""
    (place / "fleet.toml").write_text(TWO)
    assert nixfleet(*arguments(place), "--key", place / "ci.key").exit_code == 0
    check = ("release", "check", place / "releases", "--trust", place / "trust.json", "--at", AT)
    assert nixfleet(*check).exit_code == 0
    trust_file(place, ada=OperatorRole.OPERATE)
    refused = nixfleet(*check)
    assert refused.exit_code == 1
    assert f"waves.stable[1].guards.approvals.count: {NEVER}" in refused.stderr


def test_a_release_signed_again_with_another_author_says_what_changes(
    nixfleet: Invoke, place: Path
) -> None:
    """No host moves, and the approvals that were given may count no more."""
    key = ("--key", place / "ci.key")
    nixfleet(*arguments(place), *key)
    named = nixfleet(*arguments(place, at="2026-05-16T01:05:00Z"), *key, "--author", "ada")
    assert (
        "rollouts\n  stable@a1b2 names ada as its author: ada does not approve it, and if ada has approved a wave to "
        "come, all guards are asked anew\n"
    ) in named.stdout
    other = nixfleet(*arguments(place, at="2026-05-16T01:06:00Z"), *key, "--author", "bob")
    assert "stable@a1b2 names bob as its author instead of ada: " in other.stdout
    same = nixfleet(*arguments(place, at="2026-05-16T01:07:00Z"), *key, "--author", "bob")
    assert same.stdout.endswith("nothing changes\n")
    nobody = nixfleet(*arguments(place, at="2026-05-16T01:08:00Z"), *key)
    assert "stable@a1b2 names no author any longer, so bob may approve it\n" in nobody.stdout
