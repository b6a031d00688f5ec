"""`nixfleet keys`, `token` and `enroll`: from a new key to a host that is known."""

import json
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from nixfleet_proto.codec import decode_signed_token, decode_trust_root, encode_trust_root
from nixfleet_proto.signing import SigningKey, fingerprint_of, verify_token
from nixfleet_runtime.documents.problems import Problem
from nixfleet_runtime.documents.tables import read_toml
from nixfleet_runtime.kernel.clock import SystemClock
from tests.cli.conftest import Invoke
from tests.support.enrolling_server import ORG_ROOT_KEY, TRUST, EnrollingServer, enrolling_server

AGENT = """
hostname = "web-01"
control_plane.url = "{url}"
trust.file = "trust.json"
identity.key_file = "host.key"
identity.bootstrap_token_file = "token.json"
journal.path = "journal.db"
manifests.cache_directory = "manifests"
activator.kind = "directory"
activator.store = "."
activator.profile = "profile"
"""


@pytest.fixture
def server() -> Iterator[EnrollingServer]:
    with enrolling_server() as server:
        yield server


@pytest.fixture
def config(server: EnrollingServer, tmp_path: Path) -> Path:
    """The configuration of a host that has nothing yet but its trust file; org.key lies beside it."""
    (tmp_path / "trust.json").write_bytes(encode_trust_root(TRUST))
    ORG_ROOT_KEY.save(tmp_path / "org.key")
    file = tmp_path / "agent.toml"
    file.write_text(AGENT.format(url=server.url))
    return file


def minted_nonce(told: str, directory: Path) -> str:
    """Return the nonce of the entry that minting showed, read as CI reads it."""
    file = directory / "admission.toml"
    file.write_text(told[told.index("  [[nonces]]") :])
    content = read_toml(file)
    assert not isinstance(content, Problem), content
    (entry,) = json.loads(json.dumps(content["nonces"], default=str))
    assert entry["hostname"] == "web-01"
    return str(entry["nonce"])


# keys


def test_a_new_key_is_its_owners_alone_and_shows_its_public_half(
    nixfleet: Invoke, tmp_path: Path
) -> None:
    """What is shown is what `keys show` shows later, and nothing of it is secret."""
    file = tmp_path / "ada.key"
    made = nixfleet("keys", "new", file, "--operator", "ada")
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().strip() not in made.output
    assert fingerprint_of(SigningKey.load(file).public_key) in made.stdout
    assert nixfleet("keys", "show", file, "--operator", "ada").stdout == made.stdout


def test_what_the_trust_file_wants_is_shown_as_it_wants_it(
    nixfleet: Invoke, tmp_path: Path
) -> None:
    """The lines put together are a trust file that can be read."""
    file = tmp_path / "a.key"
    shown = nixfleet("keys", "new", file, "--operator", "ada").stdout.splitlines()
    members = [line.strip() for line in shown if line.startswith('  "')]
    trust = decode_trust_root(f"{{{','.join(members)}}}".encode())
    key = SigningKey.load(file).public_key
    assert trust.org_root_key is not None
    assert (trust.ci_release_key.current, trust.org_root_key.current) == (key, key)
    assert [(it.name, it.public_key) for it in trust.operators] == [("ada", key)]


def test_a_key_is_never_written_over(nixfleet: Invoke, tmp_path: Path) -> None:
    """Whatever is there stays as it is."""
    file = tmp_path / "a.key"
    file.write_text("precious")
    result = nixfleet("keys", "new", file)
    assert (result.exit_code, file.read_text()) == (1, "precious")


def test_a_key_in_openssh_spelling_is_shown(nixfleet: Invoke, tmp_path: Path) -> None:
    """The public host key that a machine has anyway will do."""
    file = tmp_path / "host.pub"
    file.write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKNjwDUPdGmbJtaLWRrLTdGBRYyMUZXYTHQmsxNVmj root@web\n"
    )
    shown = nixfleet("keys", "show", file)
    assert shown.exit_code == 0, shown.output
    assert "63ca363c0350f74699b26d68b591acb4dd181458c8c5195d84c7426b313559a3" in shown.stdout


@pytest.mark.parametrize(
    ("content", "mode", "exit_code", "words"),
    [
        ("ab" * 32, 0o644, 1, "has mode 0644; expected 0600"),
        ("no key", 0o600, 2, "holds no key"),
        ("ssh-rsa AAAA", 0o644, 2, "expected an ed25519 key, found another kind"),
        (None, 0, 2, "No such file"),
    ],
)
def test_a_file_that_will_not_do_is_named(
    content: str | None,
    mode: int,
    exit_code: int,
    words: str,
    nixfleet: Invoke,
    tmp_path: Path,
) -> None:
    """Each with what was expected; what the file holds is not shown."""
    file = tmp_path / "a.key"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    result = nixfleet("keys", "show", file)
    assert result.exit_code == exit_code
    assert words in result.stderr
    assert "ab" * 32 not in result.output


# token


def test_a_minted_token_is_good_for_its_host_and_key(nixfleet: Invoke, config: Path) -> None:
    """It is signed by the org root key, lasts as long as was asked for, and its entry fits it."""
    result = nixfleet(
        "token", "mint", "--key", config.parent / "org.key", "--hostname", "web-01",
        "--fingerprint", "AB" * 32, "--hours", "2",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    now = SystemClock().now()
    token = verify_token(decode_signed_token(result.stdout.encode()), TRUST, now)
    assert token.expected_pubkey_fingerprint == "ab" * 32
    assert token.expires_at - token.issued_at == timedelta(hours=2)
    assert minted_nonce(result.stderr, config.parent) == token.nonce


@pytest.mark.parametrize(
    ("option", "value", "exit_code"),
    [
        ("--fingerprint", "abc", 2),
        ("--hostname", "", 2),
        ("--hours", "0", 2),
        ("--key", "nowhere.key", 2),
        ("--out", "there", 1),
    ],
)
def test_a_token_that_cannot_be_made_is_explained(
    option: str,
    value: str,
    exit_code: int,
    nixfleet: Invoke,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is written, and nothing over what is there."""
    monkeypatch.chdir(config.parent)
    Path("there").write_text("precious")
    given = {
        "--key": "org.key",
        "--hostname": "web-01",
        "--fingerprint": "ab" * 32,
        "--hours": "1",
        "--out": "token.json",
    }
    arguments = [word for pair in (given | {option: value}).items() for word in pair]
    result = nixfleet("token", "mint", *arguments)
    assert result.exit_code == exit_code, result.output
    assert "Error" in result.stderr
    assert Path("there").read_text() == "precious"
    assert not Path("token.json").exists()


# enroll


def test_a_host_is_enrolled_in_three_commands(
    nixfleet: Invoke, config: Path, server: EnrollingServer
) -> None:
    """Ask for a key, mint a token for its fingerprint, bring it: the host is known, and stays known."""
    asked = nixfleet("enroll", "--config", config)
    assert asked.exit_code == 1
    (line,) = [it for it in asked.stderr.splitlines() if "token mint" in it]
    command = line.split()[1:]
    key, out = config.parent / "org.key", config.parent / "token.json"
    minted = nixfleet(*[key if it == "ORG_ROOT_KEY" else it for it in command], "--out", str(out))
    assert minted.exit_code == 0, minted.output
    server.nonces.append(minted_nonce(minted.stderr, config.parent))

    enrolled = nixfleet("enroll", "--config", config)

    assert enrolled.exit_code == 0, enrolled.output
    assert "web-01 is enrolled" in enrolled.stdout
    again = nixfleet("enroll", "--config", config)
    assert (again.exit_code, server.enrollments) == (0, 1)
    assert "is enrolled already" in again.stdout


def test_a_token_that_is_not_on_the_list_is_explained(
    nixfleet: Invoke, config: Path, server: EnrollingServer
) -> None:
    """The control plane's reason is told, with what to do."""
    nixfleet("enroll", "--config", config)
    fingerprint = fingerprint_of(SigningKey.load(config.parent / "host.key").public_key)
    nixfleet(
        "token", "mint", "--key", config.parent / "org.key", "--hostname", "web-01",
        "--fingerprint", fingerprint, "--out", config.parent / "other.json",
    )  # fmt: skip
    refused = nixfleet("enroll", "--config", config, "--token", config.parent / "other.json")
    assert refused.exit_code == 1
    assert "add it and publish a release" in refused.stderr


def test_a_control_plane_that_is_away_is_told(nixfleet: Invoke, config: Path) -> None:
    """The host has its key by then, and says that nobody answers."""
    config.write_text(AGENT.format(url="http://127.0.0.1:9"))
    nixfleet("keys", "new", config.parent / "host.key")
    result = nixfleet("enroll", "--config", config)
    assert result.exit_code == 2
    assert (
        "cannot connect to http://127.0.0.1:9: nothing listens there (connection refused); "
        "check that the control plane runs, and the port" in result.stderr
    )


def test_a_configuration_with_mistakes_makes_no_key(nixfleet: Invoke, config: Path) -> None:
    """Every mistake is told, and nothing was begun."""
    config.write_text(config.read_text() + "nonsense = 1\nlog.level = 'loud'\n")
    result = nixfleet("enroll", "--config", config)
    assert result.exit_code == 2
    assert "2 problems" in result.stderr
    assert not (config.parent / "host.key").exists()


def test_a_new_key_has_its_public_half_beside_it(nixfleet: Invoke, tmp_path: Path) -> None:
    """In OpenSSH's form, which cannot be taken for a private key; an existing one is never replaced."""
    made = nixfleet("keys", "new", tmp_path / "ada.key")
    public = (tmp_path / "ada.key.pub").read_text()
    (tmp_path / "ada.key").unlink()
    again = nixfleet("keys", "new", tmp_path / "ada.key")

    assert made.exit_code == 0, made.output
    assert public.startswith("ssh-ed25519 ")
    shown = nixfleet("keys", "show", tmp_path / "ada.key.pub")
    assert shown.stdout == made.stdout
    assert again.exit_code == 1
    assert "ada.key.pub: expected no file, found one" in again.stderr
    assert not (tmp_path / "ada.key").exists()


def test_tokens_for_many_hosts_are_minted_at_once(nixfleet: Invoke, tmp_path: Path) -> None:
    """One file a host, each good for its key; the org key is needed once."""
    ORG_ROOT_KEY.save(tmp_path / "org.key")
    hosts = {f"web-{number:02}": f"{number:064x}" for number in range(3)}
    lines = ["# name fingerprint", "", *(f"{name}  {key}" for name, key in hosts.items())]
    (tmp_path / "hosts").write_text("\n".join(lines))
    mint = ("token", "mint", "--key", tmp_path / "org.key", "--hosts", tmp_path / "hosts")

    minted = nixfleet(*mint, "--out", tmp_path / "tokens")
    again = nixfleet(*mint, "--out", tmp_path / "tokens")

    assert minted.exit_code == 0, minted.output
    for name, fingerprint in hosts.items():
        token = verify_token(
            decode_signed_token((tmp_path / "tokens" / f"{name}.json").read_bytes()),
            TRUST,
            SystemClock().now(),
        )
        assert (token.hostname, token.expected_pubkey_fingerprint) == (name, fingerprint)
    assert again.exit_code == 1
    assert again.stderr.count("expected no file, found one") == 3


def test_every_mistake_in_a_list_of_hosts_is_told_and_no_token_is_made(
    nixfleet: Invoke, tmp_path: Path
) -> None:
    """By line: a bad fingerprint, a name that would leave the directory, a host twice."""
    ORG_ROOT_KEY.save(tmp_path / "org.key")
    key = "ab" * 32
    (tmp_path / "hosts").write_text(f"web-01 xyz\n../web-02 {key}\nweb-03 {key}\nweb-03 {key}\n")

    minted = nixfleet(
        *("token", "mint", "--key", tmp_path / "org.key", "--hosts", tmp_path / "hosts"),
        *("--out", tmp_path / "tokens"),
    )

    assert minted.exit_code == 1
    assert [line.partition(": ")[0].rpartition(":")[2] for line in minted.stderr.splitlines()][
        -2:
    ] == ["2", "4"]
    assert not (tmp_path / "tokens").exists()


def test_a_file_that_is_no_key_is_said_to_be_none_whatever_its_rights(
    nixfleet: Invoke, tmp_path: Path
) -> None:
    """Nobody is asked to protect a file that holds no key."""
    file = tmp_path / "fleet.toml"
    file.write_text("[channels.stable]\n", encoding="utf-8")
    file.chmod(0o644)

    shown = nixfleet("keys", "show", file)

    assert shown.exit_code == 2
    assert "600" not in shown.stderr
