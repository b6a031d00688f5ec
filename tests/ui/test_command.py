"""`nixfleet ui` as a process: what it prints, what others can see of it, and how it ends."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from nixfleet_cli.main import main
from nixfleet_proto.signing import SigningKey

ENDS_WITHIN_SECONDS = 20
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """An operator's key."""
    file = tmp_path / "alice.key"
    SigningKey.generate().save(file)
    return file


@contextmanager
def _running(key_file: Path, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = (sys.executable, "-m", "nixfleet_cli", "ui", "--url", NOBODY, "--json")
    with subprocess.Popen(
        (*command, "--key", str(key_file), "--name", "alice", *options),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _token_in(file: Path) -> str:
    found = re.search(r"#([A-Za-z0-9_-]{43})", file.read_text())
    assert found
    return found[1]


def test_the_secret_is_in_a_file_of_the_operators_and_nowhere_else(
    key_file: Path, tmp_path: Path
) -> None:
    """The browser is given the file's name: no command line and no output has the secret, and the file goes with it."""
    browser, given = tmp_path / "browser", tmp_path / "given"
    browser.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {given}.new\nmv {given}.new {given}\n')
    browser.chmod(0o700)
    runtime = tmp_path / "run"
    runtime.mkdir()

    places = {"BROWSER": f"{browser} %s", "XDG_RUNTIME_DIR": str(runtime)}
    with _running(key_file, **places) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        shown = json.loads(line)
        file = Path(shown["file"])
        token = _token_in(file)

        assert runtime in file.parents
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert token not in line
        assert token not in Path(f"/proc/{process.pid}/cmdline").read_text()
        assert token not in Path(f"/proc/{process.pid}/environ").read_text()

        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN_SECONDS) == 0
    assert given.read_text() == f"{file.as_uri()}\n"
    assert not file.exists()
    assert list(runtime.iterdir()) == []


def test_an_interrupt_ends_it_in_order(key_file: Path) -> None:
    """^C is how a person ends it: exit code 0, and the file is gone."""
    with _running(key_file, "--no-browser") as process:
        assert process.stdout is not None
        file = Path(json.loads(process.stdout.readline())["file"])
        process.send_signal(signal.SIGINT)
        assert process.wait(ENDS_WITHIN_SECONDS) == 0
    assert not file.exists()


def test_it_listens_on_loopback_alone(key_file: Path) -> None:
    """No other machine can ask it."""
    with _running(key_file, "--no-browser") as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        port = int(address.rpartition(":")[2])
        listening = [
            line.split()[1]
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
        ]
    assert listening == [f"0100007F:{port:04X}"]


def test_a_port_that_is_taken_is_said(key_file: Path) -> None:
    """Exit code 2, with which port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(
            main, ["ui", "--url", NOBODY, "--key", str(key_file), "--port", port]
        )
    assert result.exit_code == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in result.output


def test_plain_http_to_another_machine_needs_permission(key_file: Path) -> None:
    """As for `nixfleet operator`."""
    arguments = ["ui", "--url", "http://fleet.example.org", "--key", str(key_file), "--no-browser"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "--plain-http" in result.output
