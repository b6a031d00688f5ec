"""`nixfleet release`: signed files, what they change for whom, and whether they will be believed."""

import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nixfleet_proto.codec import decode_fleet, encode_signed_token, encode_trust_root
from nixfleet_proto.enrollment import BootstrapToken
from nixfleet_proto.signing import SigningKey, sign_token
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_runtime.releases.nar import closure_name_of
from tests.cli.conftest import Invoke
from tests.cli.test_fleet_check import SHOP

CI, STRANGER, ORG = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
AT = "2026-05-16T01:00:00Z"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A declaration, a tree for each host, keys, and a trust file."""
    (tmp_path / "fleet.toml").write_text(SHOP)
    for hostname in ("web-01", "web-02"):
        build(tmp_path, hostname, "1")
    (tmp_path / "store").mkdir()
    CI.save(tmp_path / "ci.key")
    STRANGER.save(tmp_path / "stranger.key")
    trust = TrustRoot(KeySlot(CI.public_key))
    (tmp_path / "trust.json").write_bytes(encode_trust_root(trust))
    return tmp_path


def build(place: Path, hostname: str, version: str) -> None:
    tree = place / "built" / hostname / "bin"
    tree.mkdir(parents=True, exist_ok=True)
    (tree / "shop").write_text(version)


def arguments(place: Path, *, ref: str = "a1b2", out: str = "releases", at: str = AT) -> list[str]:
    return [
        *("release", "make", f"{place}/fleet.toml", f"{place}/{out}", "--ref", ref),
        *("--trust", f"{place}/trust.json", "--signed-at", at),
        *("--closures", f"{place}/built", "--store", f"{place}/store"),
    ]


def contents(directory: Path) -> dict[str, bytes]:
    files = (it for it in directory.rglob("*") if it.is_file())
    return {it.relative_to(directory).as_posix(): it.read_bytes() for it in files}


def test_a_release_is_made_and_will_be_believed(nixfleet: Invoke, place: Path) -> None:
    """Trees go into the store under the names that the manifest gives, and every file verifies."""
    made = nixfleet(*arguments(place), "--key", place / "ci.key")
    checked = nixfleet(
        "release", "check", place / "releases", "--trust", place / "trust.json", "--at", AT
    )

    assert (made.exit_code, made.stdout) == (0, f"{place}/releases: stable@a1b2\n"), made.output
    assert checked.exit_code == 0, checked.output
    assert [line.partition(":")[0] for line in checked.stdout.splitlines()] == [
        "fleet.resolved.json",
        "rollouts/stable@a1b2.json",
        "revocations.json",
        "bootstrap-nonces.json",
        "stable@a1b2",
        "stable@a1b2",
    ]
    assert checked.stdout.endswith(
        "stable@a1b2: waves of 1, 1 hosts\n"
        "stable@a1b2: at worst 1 of 2 hosts: 0 tolerated + 1 in flight\n"
    )
    for closure in (place / "store").iterdir():
        assert closure.name == closure_name_of(closure, closure.name.partition("-")[2])
        assert (closure / "etc/nixfleet/agent/health-checks.json").is_file()
        assert closure.name.encode() in (place / "releases/rollouts/stable@a1b2.json").read_bytes()
    assert contents(place / "built").keys() == {"web-01/bin/shop", "web-02/bin/shop"}


def test_a_resolved_fleet_is_released_with_the_closures_it_names(
    nixfleet: Invoke, place: Path
) -> None:
    """What a Nix evaluation wrote is signed as it is, for the hosts that have something to run."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    fleet = json.loads((place / "releases/fleet.resolved.json").read_bytes())
    closure = fleet["hosts"]["web-01"]["closureHash"]
    fleet["hosts"]["web-02"]["closureHash"] = None
    fleet["waves"]["stable"] = [{"hosts": ["web-01", "web-02"], "soakMinutes": 5}]
    fleet["meta"]["signedAt"] = None
    (place / "fleet.json").write_text(json.dumps({**fleet, "later": 1}))
    signing = ("--trust", f"{place}/trust.json", "--signed-at", AT, "--key", place / "ci.key")

    made = nixfleet(
        *("release", "make", place / "fleet.json", place / "imported", "--ref", "c3d4"), *signing
    )

    assert (made.exit_code, made.stdout) == (0, f"{place}/imported: stable@c3d4\n"), made.output
    assert made.stderr == (
        "warning: $.later: unknown field, left out\nwarning: web-02: no closure, so in no rollout\n"
    )
    manifest = json.loads((place / "imported/rollouts/stable@c3d4.json").read_bytes())
    assert [(it["hostname"], it["targetClosure"]) for it in manifest["hostSet"]] == [
        ("web-01", closure)
    ]


def test_a_resolved_fleet_takes_no_closures(nixfleet: Invoke, place: Path) -> None:
    """It names them itself; which of the two would count would be a guess."""
    given = arguments(place)
    given[2] = f"{place}/fleet.json"
    (place / "fleet.json").write_text("{}")

    assert nixfleet(*given, "--key", place / "ci.key").exit_code == 2


def test_the_same_is_released_twice_as_the_same_bytes(nixfleet: Invoke, place: Path) -> None:
    """A key in a file and the same key behind a command make no difference either."""
    script = (
        "import os; from pathlib import Path; from nixfleet_proto.signing import SigningKey; "
        "Path(os.environ['NIXFLEET_OUTPUT']).write_bytes("
        f"SigningKey.load(Path('{place}/ci.key')).sign(Path(os.environ['NIXFLEET_INPUT']).read_bytes()))"
    )
    nixfleet(*arguments(place, out="one"), "--key", place / "ci.key")
    made = nixfleet(
        *arguments(place, out="other"), "--sign-with", f'{sys.executable} -c "{script}"'
    )

    assert made.exit_code == 0, made.output
    assert contents(place / "one") == contents(place / "other")


def test_what_a_release_changes_is_told(nixfleet: Invoke, place: Path) -> None:
    """Whoever replaces a release, or compares two, reads what happens to whom."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    shutil.copytree(place / "releases", place / "old")
    build(place, "web-02", "2")
    (place / "fleet.toml").write_text(SHOP.replace("soak_minutes = 5", "soak_minutes = 9"))
    admission = place / "admission.toml"
    admission.write_text(
        'revocations = [{hostname = "web-01", not_before = 2026-05-16T00:00:00Z, reason = "stolen"}]'
    )
    made = nixfleet(
        *arguments(place, ref="c3d4"), "--key", place / "ci.key", "--admission", admission
    )
    told = nixfleet(
        "release", "diff", place / "old", place / "releases", "--store", place / "store"
    )

    assert (made.exit_code, told.exit_code) == (0, 0), made.output + told.output
    assert told.stdout == made.stdout.partition("\n")[2]
    lines = told.stdout.splitlines()
    assert "  stable@c3d4 succeeds stable@a1b2" in lines
    assert any(line.startswith("  web-01 keeps ") for line in lines)
    assert any(line.startswith("  web-02 moves from ") for line in lines)
    assert "  stable, wave 0: web-01, soak 9 min; before: web-01, soak 5 min" in lines
    assert "  web-01 is revoked until it enrolls at or after 2026-05-16T00:00:00Z (stolen)" in lines


def test_a_key_that_the_fleet_does_not_trust_signs_nothing(nixfleet: Invoke, place: Path) -> None:
    """A release that nobody would believe is refused before it is made."""
    made = nixfleet(*arguments(place), "--key", place / "stranger.key")

    assert made.exit_code == 1
    assert CI.public_key.public_key in made.stderr
    assert STRANGER.public_key.public_key in made.stderr
    assert not (place / "releases").exists()


def test_a_hook_that_fails_leaves_the_earlier_release(nixfleet: Invoke, place: Path) -> None:
    """Nothing is written before everything is signed."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    before = contents(place / "releases")

    made = nixfleet(*arguments(place, ref="c3d4"), "--sign-with", "false")

    assert made.exit_code == 2
    assert "the signing command false failed" in made.stderr
    assert contents(place / "releases") == before


def test_a_release_that_lost_a_file_is_replaced_with_a_warning(
    nixfleet: Invoke, place: Path
) -> None:
    """What is broken need not be put right by hand before a new release takes its place."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    (place / "releases/fleet.resolved.json.sig").unlink()

    made = nixfleet(*arguments(place, ref="c3d4"), "--key", place / "ci.key")

    assert made.exit_code == 0, made.output
    assert "found no fleet.resolved.json.sig; it is replaced" in made.stderr
    assert (place / "releases/fleet.resolved.json.sig").is_file()


def test_a_first_release_into_an_empty_directory_warns_of_nothing(
    nixfleet: Invoke, place: Path
) -> None:
    """A control plane needs its release directory before there is a release: nothing is replaced in it."""
    (place / "releases").mkdir()

    made = nixfleet(*arguments(place), "--key", place / "ci.key")

    assert made.exit_code == 0, made.output
    assert "it is replaced" not in made.stderr


def test_every_mistake_of_a_declaration_is_told(nixfleet: Invoke, place: Path) -> None:
    """A host without a tree and a tree without a host are mistakes too, and nothing is written."""
    (place / "built" / "web-01").rename(place / "built" / "web-91")

    made = nixfleet(*arguments(place), "--key", place / "ci.key")

    assert made.exit_code == 1
    assert "closures.web-91: no such host" in made.stderr
    assert not (place / "releases").exists()


def test_closures_that_have_their_names_are_taken_with_their_checks(
    nixfleet: Invoke, place: Path
) -> None:
    """Store paths are compared with the declaration where they are here; what is not is named."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    here = next(it for it in (place / "store").iterdir() if it.name.endswith("web-01"))
    paths = place / "paths.json"
    away = f"/nix/store/{'0a' * 16}-web-02"
    paths.write_text(f'{{"web-01": "{here}", "web-02": "{away}"}}')
    given = arguments(place, out="named")[:-4]

    made = nixfleet(*given, "--store-paths", paths, "--key", place / "ci.key")
    (place / "fleet.toml").write_text(SHOP.replace('["true"]', '["false"]'))
    stale = nixfleet(*given, "--store-paths", paths, "--key", place / "ci.key")

    assert made.exit_code == 0, made.output
    assert "not on this machine, so their health checks were not compared: web-02" in made.stderr
    assert stale.exit_code == 1
    assert "closures.web-01: built with other health checks than declared" in stale.stderr


def test_closures_with_names_of_their_own_are_released_by_these(
    nixfleet: Invoke, place: Path
) -> None:
    """An image and a commit are what the hosts' own commands take; the release has them as they are."""
    commit, image = "0a" * 20, f"registry.example:5000/shop@sha256:{'0a' * 32}"
    names = place / "names.json"
    names.write_text(json.dumps({"web-01": commit, "web-02": image}))
    given = arguments(place, out="named")[:-4]

    made = nixfleet(*given, "--names", names, "--key", place / "ci.key")

    assert made.exit_code == 0, made.output
    fleet = decode_fleet((place / "named/fleet.resolved.json").read_bytes())
    assert {name: it.closure_hash for name, it in fleet.hosts.items()} == {
        "web-01": commit,
        "web-02": image,
    }


def test_every_name_that_no_command_can_take_is_a_mistake(nixfleet: Invoke, place: Path) -> None:
    """So is a host that there is not, and a file that is no object of names."""
    names = place / "names.json"
    given = (*arguments(place, out="named")[:-4], "--names", names, "--key", place / "ci.key")
    names.write_text('{"web-01": "--force", "web-02": "a b", "web-91": "v1"}')
    mistaken = nixfleet(*given)
    names.write_text('["v1"]')
    other = nixfleet(*given)

    assert (mistaken.exit_code, other.exit_code) == (1, 1)
    for line in (
        "closures.web-91: no such host",
        "closures.web-01: no name: expected up to 255 letters",
        "closures.web-02: no name: expected up to 255 letters",
    ):
        assert line in mistaken.stderr
    assert "not names by host" in other.stderr


def test_a_release_takes_its_closures_from_one_place(nixfleet: Invoke, place: Path) -> None:
    """Names beside trees would leave open which count."""
    names = place / "names.json"
    names.write_text("{}")
    made = nixfleet(*arguments(place), "--names", names, "--key", place / "ci.key")
    assert made.exit_code == 2
    assert "expected one of --closures, --store-paths and --names" in made.stderr


def test_a_release_that_was_tampered_with_is_told_with_every_reason(
    nixfleet: Invoke, place: Path
) -> None:
    """A changed byte, and a manifest of another fleet, are both told, by the file they are in."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    nixfleet(
        *arguments(place, ref="c3d4", out="other", at="2026-05-16T01:00:01Z"),
        "--key",
        place / "ci.key",
    )
    for name in ("stable@c3d4.json", "stable@c3d4.json.sig"):
        shutil.copy(place / "other/rollouts" / name, place / "releases/rollouts")
    nonces = place / "releases/bootstrap-nonces.json"
    nonces.write_bytes(nonces.read_bytes().replace(b"ed25519", b"ed25518"))

    checked = nixfleet(
        "release", "check", place / "releases", "--trust", place / "trust.json", "--at", AT
    )

    assert checked.exit_code == 1
    assert "bootstrap-nonces.json: signed by none of the trusted keys" in checked.stderr
    assert "rollouts/stable@c3d4.json: " in checked.stderr


def test_a_pinned_host_keeps_what_was_built_for_it(nixfleet: Invoke, place: Path) -> None:
    """Its closure comes from the release of the commit that it is pinned to; the rest of the channel moves."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    shutil.copytree(place / "releases", place / "old")
    for hostname in ("web-01", "web-02"):
        build(place, hostname, "2")
    declaration = place / "fleet.toml"
    declaration.write_text(SHOP + '\n[hosts.web-02.pin]\ncommit = "a1b2"\n')
    missing = nixfleet(*arguments(place, ref="c3d4"), "--key", place / "ci.key")
    pinned = ["--pinned", f"a1b2={place}/old", "--key", place / "ci.key"]
    made = nixfleet(*arguments(place, ref="c3d4"), *pinned)

    assert missing.exit_code == 1
    assert "closures.web-02: pinned to a1b2 by host web-02" in missing.stderr
    assert made.exit_code == 0, made.output
    assert "stable@c3d4 succeeds stable@a1b2" in made.stdout
    assert "  web-01 moves from " in made.stdout
    assert "  web-02 keeps " in made.stdout


def test_a_pinned_channel_stays_where_it_is(nixfleet: Invoke, place: Path) -> None:
    """Its rollout id is that of its pin, so no rollout follows; after the pin expired it moves."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    shutil.copytree(place / "releases", place / "old")
    build(place, "web-01", "2")
    (place / "fleet.toml").write_text(
        SHOP + '\n[channels.stable.pin]\ncommit = "a1b2"\nexpires_at = 2026-05-17T00:00:00Z\n'
    )
    pinned = ["--pinned", f"a1b2={place}/old", "--key", place / "ci.key"]
    during = nixfleet(*arguments(place, ref="c3d4"), *pinned)
    after = nixfleet(*arguments(place, ref="c3d4", at="2026-05-17T00:00:00Z"), *pinned)

    assert (during.exit_code, during.stdout) == (
        0,
        f"{place}/releases: stable@a1b2\nnothing changes\n",
    ), during.output
    assert f"{place}/releases: stable@c3d4\n" in after.stdout
    assert "the pin of channel stable to a1b2 expired" in after.stderr


# What a control plane would refuse after the release that is there.


def test_a_ref_that_was_superseded_is_refused_and_a_new_one_goes_back(
    nixfleet: Invoke, place: Path
) -> None:
    """An older ref moves no host, so it is refused; the same content is accepted under a new ref."""
    key = ("--key", place / "ci.key")
    nixfleet(*arguments(place, ref="aaa"), *key)
    nixfleet(*arguments(place, ref="bbb"), *key)
    before = contents(place / "releases")

    back = nixfleet(*arguments(place, ref="aaa"), *key)
    anew = nixfleet(*arguments(place, ref="aaa-again"), *key)

    assert back.exit_code == 1
    assert "stable@aaa was superseded: expected a new channel ref" in back.stderr
    assert before["history.json"] == b'{"stable":["aaa","bbb"]}'
    assert anew.exit_code == 0, anew.output
    assert (place / "releases/rollouts/stable@aaa-again.json").exists()


def test_a_superseded_ref_is_refused_for_a_release_that_is_copied_elsewhere(
    nixfleet: Invoke, place: Path
) -> None:
    """`check` finds a conflict with a release in another directory by --after."""
    key = ("--key", place / "ci.key")
    for ref in ("aaa", "bbb"):
        nixfleet(*arguments(place, ref=ref), *key)
    nixfleet(*arguments(place, ref="aaa", out="other"), *key)
    check = ("release", "check", place / "other", "--trust", place / "trust.json", "--at", AT)

    alone, after = nixfleet(*check), nixfleet(*check, "--after", place / "releases")

    assert alone.exit_code == 0, alone.output
    assert after.exit_code == 1
    assert "stable@aaa was superseded" in after.stderr


@pytest.mark.parametrize("command", ["release", "trust"])
def test_what_is_refused_is_in_the_json_with_its_reason(
    nixfleet: Invoke, place: Path, command: str
) -> None:
    """A program need not read what is written for people."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    trust, release = place / "trust.json", place / "releases"
    files = (release, "--trust", trust) if command == "release" else (trust, release)

    refused = nixfleet(command, "check", *files, "--at", "2029-01-01T00:00:00Z", "--json")

    assert refused.exit_code == 1
    found = json.loads(refused.stdout)
    assert found["accepted"] == []
    assert found["refused"]
    for each in found["refused"]:
        assert f"{each['name']}: {each['why']}" in refused.stderr


def test_the_same_ref_with_another_closure_is_refused(nixfleet: Invoke, place: Path) -> None:
    """The terms of a rollout that is in force do not change; what differs is named, and nothing is written."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    before = contents(place / "releases")
    build(place, "web-01", "2")

    made = nixfleet(*arguments(place), "--key", place / "ci.key")

    assert made.exit_code == 1
    assert "stable@a1b2 is in force with other terms: targets['web-01']: expected " in made.stderr
    assert "or a new channel ref" in made.stderr
    assert contents(place / "releases") == before


def test_the_same_ref_with_one_host_more_amends_its_rollout(nixfleet: Invoke, place: Path) -> None:
    """The control plane accepts it, and so does the next check."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    (place / "fleet.toml").write_text(SHOP + '[hosts.web-03]\nchannel = "stable"\n')
    build(place, "web-03", "1")

    made = nixfleet(*arguments(place), "--key", place / "ci.key")
    at = ("--at", "2026-05-16T01:00:00Z")
    checked = nixfleet("release", "check", place / "releases", "--trust", place / "trust.json", *at)

    assert made.exit_code == 0, made.stderr
    assert checked.exit_code == 0, checked.stderr


def test_a_release_that_is_older_than_the_one_in_force_is_refused(
    nixfleet: Invoke, place: Path
) -> None:
    """A clock that is behind signs what every receiver refuses: manifests and lists alike."""
    nixfleet(*arguments(place), "--key", place / "ci.key")

    made = nixfleet(
        *arguments(place, ref="c3d4", at="2026-05-16T00:59:59Z"), "--key", place / "ci.key"
    )

    assert made.exit_code == 1
    assert "expected a manifest signed at 2026-05-16T01:00:00Z" in made.stderr
    assert made.stderr.count("expected a list signed at 2026-05-16T01:00:00Z") == 2


def test_a_wave_in_which_no_host_has_a_closure_is_refused(nixfleet: Invoke, place: Path) -> None:
    """A canary that was not built would leave an empty wave; the message names the host."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    fleet = json.loads((place / "releases/fleet.resolved.json").read_bytes())
    fleet["hosts"]["web-01"]["closureHash"] = None
    (place / "fleet.json").write_text(json.dumps(fleet))
    signing = ("--trust", f"{place}/trust.json", "--signed-at", AT, "--key", place / "ci.key")

    made = nixfleet(
        *("release", "make", place / "fleet.json", place / "imported", "--ref", "c3d4"), *signing
    )

    assert made.exit_code == 1
    assert "found none in wave 0 (no closure: web-01)" in made.stderr
    assert not (place / "imported").exists()


# Freshness.


def test_a_release_is_accepted_for_the_window_that_its_channel_declares(
    nixfleet: Invoke, place: Path
) -> None:
    """A day is a day, with no option on the receiver's side; a receiver may set a shorter limit."""
    longer = SHOP.replace(
        "[channels.stable]", "[channels.stable]\nfreshness_window_minutes = 1440", 1
    )
    (place / "fleet.toml").write_text(longer)
    nixfleet(*arguments(place), "--key", place / "ci.key")
    check = ("release", "check", place / "releases", "--trust", place / "trust.json", "--at")

    late = nixfleet(*check, "2026-05-17T01:01:00Z")
    later = nixfleet(*check, "2026-05-17T01:01:01Z")
    limited = nixfleet(*check, "2026-05-16T05:00:00Z", "--freshness-minutes", "180")

    assert late.exit_code == 0, late.output
    assert (later.exit_code, limited.exit_code) == (1, 1)
    assert later.stderr.count("expected at most 1440 minutes") == 2
    assert limited.stderr.count("expected at most 180 minutes") == 4


def test_a_release_is_signed_anew_with_the_same_content(nixfleet: Invoke, place: Path) -> None:
    """Only the time of signing and what follows from it change, so it is accepted for another window."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    before = contents(place / "releases")
    later = "2026-05-16T09:00:00Z"
    trusted = ("--trust", place / "trust.json")

    resigned = nixfleet(
        *("release", "resign", place / "releases", "--key", place / "ci.key"),
        *(*trusted, "--signed-at", later),
    )
    checked = nixfleet("release", "check", place / "releases", *trusted, "--at", later)

    assert (resigned.exit_code, resigned.stdout) == (
        0,
        f"{place}/releases: stable@a1b2: signed anew\n",
    ), resigned.output
    assert checked.exit_code == 0, checked.output
    after = contents(place / "releases")
    assert after.keys() == before.keys()
    for name in before:
        if name.endswith(".json") and name != "history.json":
            was, now = json.loads(before[name]), json.loads(after[name])
            assert now["meta"].pop("signedAt") == later
            was["meta"].pop("signedAt")
            assert now.pop("fleetResolvedHash", 0) != was.pop("fleetResolvedHash", 1)
            assert now == was


def test_a_release_is_signed_anew_when_it_is_due(nixfleet: Invoke, place: Path) -> None:
    """Before the interval of its channel has passed, --if-due changes nothing; then it signs."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    before = contents(place / "releases")
    resign = (
        *("release", "resign", place / "releases", "--key", place / "ci.key"),
        *("--trust", place / "trust.json", "--if-due", "--signed-at"),
    )

    early = nixfleet(*resign, "2026-05-16T01:59:59Z")
    unchanged = contents(place / "releases") == before
    due = nixfleet(*resign, "2026-05-16T02:00:00Z")

    assert (early.exit_code, unchanged) == (0, True), early.output
    assert early.stdout == f"{place}/releases: not due before 2026-05-16 02:00:00Z\n"
    assert due.stdout == f"{place}/releases: stable@a1b2: signed anew\n"


def test_a_release_that_was_changed_is_not_signed_anew(nixfleet: Invoke, place: Path) -> None:
    """A signature of CI must not be had by writing into its directory."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    file = place / "releases/rollouts/stable@a1b2.json"
    file.write_bytes(file.read_bytes().replace(b"halt", b"halted", 1))
    before = contents(place / "releases")

    resigned = nixfleet(
        *("release", "resign", place / "releases", "--key", place / "ci.key"),
        *("--trust", place / "trust.json"),
    )

    assert resigned.exit_code == 1
    assert "signed by none of the trusted keys" in resigned.stderr
    assert contents(place / "releases") == before


# Publishing, the last step.


def publish(place: Path, *more: str, at: str = AT) -> tuple[str | Path, ...]:
    trusted = ("--trust", place / "trust.json", "--at", at)
    return ("release", "publish", place / "made", place / "releases", *trusted, *more)


def test_a_release_is_published_as_it_was_made(nixfleet: Invoke, place: Path) -> None:
    """Nothing is in force before; then the directory has the signed files, byte for byte."""
    made = nixfleet(*arguments(place, out="made"), "--key", place / "ci.key")
    assert (made.exit_code, (place / "releases").exists()) == (0, False), made.output

    published = nixfleet(*publish(place, "--store", f"{place}/store"))

    assert published.exit_code == 0, published.output
    assert published.stdout == f"{place}/releases: stable@a1b2\n"
    assert contents(place / "releases") == contents(place / "made")


def test_a_release_whose_closures_have_not_arrived_is_not_published(
    nixfleet: Invoke, place: Path
) -> None:
    """Every missing closure is named with its host; when it is there, the same command succeeds."""
    nixfleet(*arguments(place, out="made"), "--key", place / "ci.key")
    closure = next((place / "store").glob("*-web-02"))
    aside = closure.rename(place / "aside")

    early = nixfleet(*publish(place, "--store", f"{place}/store"))
    was_written = (place / "releases").exists()
    aside.rename(closure)
    later = nixfleet(*publish(place, "--store", f"{place}/store"))

    assert (early.exit_code, was_written) == (1, False)
    assert f"{closure.name}, for web-02" in early.stderr
    assert "web-01" not in early.stderr
    assert later.exit_code == 0


def test_publishing_what_the_fleet_would_refuse_changes_nothing(
    nixfleet: Invoke, place: Path
) -> None:
    """A ref that was superseded, a stale signature and a changed file are refused as by receivers."""
    nixfleet(*arguments(place, out="made"), "--key", place / "ci.key")
    nixfleet(*publish(place))
    nixfleet(*arguments(place, ref="c3d4", out="made"), "--key", place / "ci.key")
    second = nixfleet(*publish(place))
    before = contents(place / "releases")

    shutil.rmtree(place / "made")
    nixfleet(*arguments(place, ref="a1b2", out="made"), "--key", place / "ci.key")
    superseded = nixfleet(*publish(place))
    stale = nixfleet(*publish(place, at="2026-05-17T01:00:00Z"))

    assert "stable@c3d4 succeeds stable@a1b2" in second.stdout
    assert superseded.exit_code == 1
    assert "was superseded" in superseded.stderr
    assert stale.exit_code == 1
    assert contents(place / "releases") == before


def test_a_release_is_made_after_the_one_in_force(nixfleet: Invoke, place: Path) -> None:
    """With --after, what lies unpublished in OUT is no precedent, and the one in force is."""
    nixfleet(*arguments(place, out="releases"), "--key", place / "ci.key")
    nixfleet(*arguments(place, ref="c3d4", out="made"), "--key", place / "ci.key")
    build(place, "web-01", "2")

    after = ("--key", place / "ci.key", "--after", place / "releases")
    made = nixfleet(*arguments(place, ref="c3d4", out="made"), *after)
    refused = nixfleet(*arguments(place, ref="a1b2", out="made"), *after)

    assert "stable@c3d4 succeeds stable@a1b2" in made.stdout, made.output
    assert refused.exit_code == 1
    assert "in force with other terms" in refused.stderr


# Tokens, nonces and refs.


def _token(place: Path, hostname: str, *, key: SigningKey, fingerprint: str = "ab" * 32) -> None:
    at = datetime(2026, 5, 16, tzinfo=UTC)
    token = BootstrapToken(hostname, fingerprint, at, at + timedelta(days=1), f"n-{hostname}")
    (place / "tokens").mkdir(exist_ok=True)
    (place / "tokens" / f"{hostname}.json").write_bytes(encode_signed_token(sign_token(token, key)))


@pytest.mark.parametrize(
    ("hostname", "key", "why"),
    [
        ("web-09", STRANGER, "signed by none of the trusted keys"),
        ("web-09", ORG, "no host 'web-09' in the fleet"),
        ("web-01", ORG, "a token for another key than the pubkey that the fleet declares for"),
    ],
)
def test_a_token_that_no_host_could_enroll_with_is_refused(
    nixfleet: Invoke, place: Path, hostname: str, key: SigningKey, why: str
) -> None:
    """Signed by another key, for an unknown host, or for another key than the declared one."""
    trust = TrustRoot(KeySlot(CI.public_key), KeySlot(ORG.public_key))
    (place / "trust.json").write_bytes(encode_trust_root(trust))
    declared = f'[hosts.web-01]\npubkey = "{STRANGER.public_key.public_key}"'
    (place / "fleet.toml").write_text(SHOP.replace("[hosts.web-01]", declared))
    _token(place, hostname, key=key)

    made = nixfleet(*arguments(place), "--key", place / "ci.key", "--tokens", place / "tokens")

    assert made.exit_code == 1
    assert why in made.stderr
    assert not (place / "releases").exists()


def test_a_nonce_for_an_unknown_host_is_refused(nixfleet: Invoke, place: Path) -> None:
    """With the nearest name."""
    (place / "admission.toml").write_text(
        'nonces = [{nonce = "n-1", hostname = "web-91", expires_at = 2026-05-17T00:00:00Z}]'
    )

    made = nixfleet(
        *arguments(place), "--key", place / "ci.key", "--admission", place / "admission.toml"
    )

    assert made.exit_code == 1
    assert "nonces.n-1: no such host" in made.stderr


@pytest.mark.parametrize("ref", ["r" * 240, "ä" * 40])
def test_a_ref_too_long_for_a_file_name_is_refused(nixfleet: Invoke, place: Path, ref: str) -> None:
    """By the length that it has in a file name."""
    made = nixfleet(*arguments(place, ref=ref), "--key", place / "ci.key")

    assert made.exit_code == 1
    assert "use a shorter ref" in made.stderr
