"""`nixfleet agent init`: what it prints and how it ends."""

from pathlib import Path

import pytest

from nixfleet_proto.codec import encode_trust_root
from tests.cli.conftest import Invoke
from tests.support.enrolling_server import TRUST


@pytest.fixture
def arguments(tmp_path: Path) -> list[str | Path]:
    (tmp_path / "trust.json").write_bytes(encode_trust_root(TRUST))
    (tmp_path / "base").mkdir()
    made: list[str | Path] = ["agent", "init", tmp_path / "web-01", "--hostname", "web-01"]
    made += ["--control-plane", "https://fleet.example.org", "--trust", tmp_path / "trust.json"]
    return made


def test_a_prepared_agent_is_shown_with_its_key(
    nixfleet: Invoke, arguments: list[str | Path], tmp_path: Path
) -> None:
    """The public key is the one that `keys show` prints, and the configuration passes `config check`."""
    done = nixfleet(*arguments, "--closure", tmp_path / "base")

    assert done.exit_code == 0, done.output
    shown = nixfleet("keys", "show", tmp_path / "web-01/host.key").output
    (public_key,) = (
        line.split()[2] for line in done.output.splitlines() if "public key" in line[:10]
    )
    assert public_key in shown
    token_file = tmp_path / "web-01/bootstrap-token.json"
    assert f"put it at\n  {token_file}" in done.output
    assert f'bootstrap_token_file = "{token_file.name}"' in (
        tmp_path / "web-01/agent.toml"
    ).read_text("utf-8")
    assert nixfleet("config", "check", tmp_path / "web-01/agent.toml").exit_code == 0


def test_a_second_init_is_refused(
    nixfleet: Invoke, arguments: list[str | Path], tmp_path: Path
) -> None:
    """The message names what is there, and the exit code is 1."""
    nixfleet(*arguments, "--closure", tmp_path / "base")
    done = nixfleet(*arguments, "--closure", tmp_path / "base")

    assert done.exit_code == 1
    assert f"{tmp_path / 'web-01/agent.toml'} exists" in done.output


@pytest.mark.parametrize("kinds", [[], ["--closure", "base", "--nixos"]])
def test_an_init_needs_one_kind_of_first_closure(
    nixfleet: Invoke,
    arguments: list[str | Path],
    kinds: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither or both of --closure and --nixos is a usage error, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    done = nixfleet(*arguments, *kinds)

    assert done.exit_code == 2
    assert "--closure TREE" in done.output
    assert not (tmp_path / "web-01").exists()


def test_a_trust_file_that_is_none_is_named(
    nixfleet: Invoke, arguments: list[str | Path], tmp_path: Path
) -> None:
    """A directory is prepared only for a trust file that the agent could read."""
    (tmp_path / "trust.json").write_text("{}")
    done = nixfleet(*arguments, "--closure", tmp_path / "base")

    assert done.exit_code == 1
    assert str(tmp_path / "trust.json") in done.output
    assert not (tmp_path / "web-01").exists()
