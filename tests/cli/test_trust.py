"""`nixfleet trust`: a trust file made, checked, and its keys changed; and what that means for a release."""

import re
from pathlib import Path

import pytest
from click.testing import Result

from nixfleet_proto.codec import decode_trust_root
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import Operator, OperatorRole
from tests.cli.conftest import Invoke
from tests.cli.test_fleet_check import SHOP
from tests.cli.test_release import arguments, build

CI, NEXT, ORG, ANNA = (SigningKey(bytes([number]) * 32) for number in range(1, 5))
AT = "2026-05-16T01:00:00Z"
LATER = "2026-05-16T02:00:00Z"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "fleet.toml").write_text(SHOP)
    (tmp_path / "store").mkdir()
    for hostname in ("web-01", "web-02"):
        build(tmp_path, hostname, "1")
    for name, key in (("ci", CI), ("next", NEXT), ("org", ORG)):
        key.save(tmp_path / f"{name}.key")
    return tmp_path


@pytest.fixture
def file(nixfleet: Invoke, place: Path) -> Path:
    """A trust file that was made by the command."""
    file = place / "trust.json"
    made = nixfleet(
        *("trust", "make", file, "--ci", CI.public_key.public_key),
        *("--org", ORG.public_key.public_key),
        *("--operator", f"anna={ANNA.public_key.public_key}:operate"),
    )
    assert made.exit_code == 0, made.output
    return file


def check(nixfleet: Invoke, file: Path, *artefacts: Path, at: str = AT) -> Result:
    return nixfleet("trust", "check", file, *artefacts, "--at", at)


def test_a_trust_file_is_made_of_public_keys(nixfleet: Invoke, file: Path) -> None:
    """Keys come to their places, operators with their roles, and an existing file is left alone."""
    trust = decode_trust_root(file.read_bytes())
    again = nixfleet("trust", "make", file, "--ci", NEXT.public_key.public_key)

    assert trust.ci_release_key.current == CI.public_key
    assert trust.operators == (Operator("anna", ANNA.public_key, OperatorRole.OPERATE),)
    assert again.exit_code == 1
    assert check(nixfleet, file).stdout.splitlines() == [
        f"CI release key: {CI.public_key.public_key}",
        f"org root key: {ORG.public_key.public_key}",
        f"operator anna (operate): {ANNA.public_key.public_key}",
    ]


def test_a_release_outlives_a_rotation_until_the_old_key_is_retired(
    nixfleet: Invoke, place: Path, file: Path
) -> None:
    """During the overlap an old release is believed, with a hint; a new one after it; the old one not any more."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    rotated = nixfleet("trust", "rotate", file, "--to", NEXT.public_key.public_key)
    during = check(nixfleet, file, place / "releases")
    nixfleet("trust", "retire", file)
    after = check(nixfleet, file, place / "releases", place / "releases/fleet.resolved.json")
    anew = nixfleet(*arguments(place, at=LATER), "--key", place / "next.key")

    assert rotated.exit_code == 0, rotated.output
    assert during.exit_code == 0, during.output
    assert "by the previous key: sign it again before that key is retired" in during.stdout
    assert after.exit_code == 1
    assert after.stderr.count("signed by none of the trusted keys") == 5
    assert anew.exit_code == 0, anew.output
    manifest = place / "releases/rollouts/stable@a1b2.json"
    assert check(nixfleet, file, manifest, at=LATER).exit_code == 0


def test_a_compromise_refuses_everything_from_before(
    nixfleet: Invoke, place: Path, file: Path
) -> None:
    """The old key is out at once, and the new one is believed from the switch on."""
    done = nixfleet(
        *("trust", "compromised", file, "--to", NEXT.public_key.public_key),
        *("--reject-before", LATER),
    )
    early = nixfleet(*arguments(place, at=AT), "--key", place / "next.key")
    late = nixfleet(*arguments(place, at=LATER), "--key", place / "next.key")

    assert "CI release key: refuses what was signed before 2026-05-16 02:00:00Z" in done.stdout
    assert early.exit_code == 1
    assert f"signed {AT} is older than reject_before {LATER}" in early.stderr
    assert late.exit_code == 0, late.output


def test_everything_that_is_wrong_is_told(nixfleet: Invoke, place: Path, file: Path) -> None:
    """Problems of the trust file, and of each artefact, stale ones too, in one go."""
    nixfleet(*arguments(place), "--key", place / "ci.key")
    text = file.read_text().replace(ANNA.public_key.public_key, "abc")
    file.write_text(text)

    checked = check(nixfleet, file, place / "releases", at="2026-05-17T01:00:00Z")

    assert checked.exit_code == 1
    assert "operators[0].publicKey.publicKey: not a key" in checked.stderr
    assert "rollouts/stable@a1b2.json: " in checked.stderr
    assert "bootstrap-nonces.json: " in checked.stderr


def test_tokens_are_artefacts_too(nixfleet: Invoke, place: Path, file: Path) -> None:
    """A token of the organisation is believed, and one of anybody else is not."""
    for name in ("org", "ci"):
        minted = nixfleet(
            *("token", "mint", "--key", place / f"{name}.key", "--hostname", "web-03"),
            *("--fingerprint", "ab" * 32, "--out", place / f"{name}.token"),
        )
        assert minted.exit_code == 0, minted.output

    assert nixfleet("trust", "check", file, place / "org.token").exit_code == 0
    refused = nixfleet("trust", "check", file, place / "ci.token")
    assert (refused.exit_code, "signed by none of the trusted keys" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments_",
    [
        ["retire"],
        ["rotate", "--to", CI.public_key.public_key],
        ["rotate", "--to", ANNA.public_key.public_key],
        ["rotate", "--to", "00" * 32],
    ],
)
def test_a_change_that_makes_no_sense_leaves_the_file_as_it_was(
    nixfleet: Invoke, file: Path, arguments_: list[str]
) -> None:
    """Nothing to retire, a key that is there, or that is an operator's, or none: told, and nothing is written."""
    before = file.read_bytes()

    done = nixfleet("trust", arguments_[0], file, *arguments_[1:])

    assert (done.exit_code, file.read_bytes()) == (1, before), done.output


def test_operators_are_added_listed_and_removed(nixfleet: Invoke, tmp_path: Path) -> None:
    """By name, with a role; the key may be in the file that `keys new` wrote."""
    for name in ("ci", "ada"):
        assert nixfleet("keys", "new", tmp_path / f"{name}.key").exit_code == 0
    file = tmp_path / "trust.json"
    assert nixfleet("trust", "make", file, "--ci", tmp_path / "ci.key.pub").exit_code == 0
    key = SigningKey.load(tmp_path / "ada.key").public_key.public_key

    add = ("trust", "add-operator", file, "ada", tmp_path / "ada.key.pub", "--role", "operate")
    added, again = nixfleet(*add), nixfleet(*add)
    listed = nixfleet("trust", "list", file)
    removed = nixfleet("trust", "remove-operator", file, "ada")
    unknown = nixfleet("trust", "remove-operator", file, "ada")

    assert added.exit_code == 0, added.output
    assert f"operator ada (operate): {key}" in listed.stdout
    assert (again.exit_code, "ada, which is an operator already" in again.stderr) == (1, True)
    assert (removed.exit_code, "operator" in removed.stdout) == (0, False)
    assert (unknown.exit_code, "expected an operator of the trust file" in unknown.stderr) == (
        1,
        True,
    )


def test_an_operator_with_a_key_that_is_another_s_is_refused(
    nixfleet: Invoke, tmp_path: Path
) -> None:
    """A key in two roles would give its holder both permissions; nothing is written."""
    nixfleet("keys", "new", tmp_path / "ci.key")
    file = tmp_path / "trust.json"
    nixfleet("trust", "make", file, "--ci", tmp_path / "ci.key.pub")
    before = file.read_bytes()

    added = nixfleet("trust", "add-operator", file, "ada", tmp_path / "ci.key.pub")

    assert added.exit_code == 1
    assert "the same key in two places" in added.stderr
    assert file.read_bytes() == before


def test_two_operators_with_one_key_or_one_name_are_refused(
    nixfleet: Invoke, tmp_path: Path
) -> None:
    """One person under two names would be two who approve: by `make`, `add-operator` and in a file."""
    for name in ("ci", "anna"):
        nixfleet("keys", "new", tmp_path / f"{name}.key")
    ci, anna = tmp_path / "ci.key.pub", tmp_path / "anna.key.pub"
    key = SigningKey.load(tmp_path / "anna.key").public_key.public_key
    file = tmp_path / "trust.json"
    operators = ("--operator", f"anna={key}", "--operator", f"anna={key}")

    made = nixfleet("trust", "make", file, "--ci", ci, *operators)
    assert made.exit_code == 1
    assert f"{file}: operators[1].name: expected a name of its own, found 'anna'" in made.stderr
    assert f"{file}: operators[1].public_key: expected a key of its own, found {key}" in made.stderr
    assert not file.exists()

    nixfleet("trust", "make", file, "--ci", ci, *operators[:2])
    added = nixfleet("trust", "add-operator", file, "bert", anna)
    assert added.exit_code == 1
    assert "operators[1].public_key: expected a key of its own" in added.stderr

    text = file.read_text()
    (operator,) = re.findall(r'"operators":\[(.*)\]', text)
    file.write_text(text.replace(operator, f"{operator},{operator}"))
    checked = nixfleet("trust", "check", file)
    assert checked.exit_code == 1
    assert "$.operators[1].name: expected a name of its own" in checked.stderr
    assert "$.operators[1].publicKey: expected a key of its own" in checked.stderr


@pytest.mark.parametrize("text", ["a" * 5_000, "ci-release: 0a0b", "nul\0"])
def test_a_text_that_is_no_public_key_and_no_file_is_refused(
    text: str, nixfleet: Invoke, file: Path
) -> None:
    """What another command printed is easily pasted here."""
    refused = nixfleet("trust", "add-operator", file, "bob", text, "--role", "read")
    assert refused.exit_code == 2
    assert "expected an ed25519 public key" in refused.stderr
    assert len(refused.stderr) < 1_000
