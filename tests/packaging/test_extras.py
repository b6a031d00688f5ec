"""The wheel with each extra in an environment of its own: what the extra promises runs, and what it lacks is named.

Marked `packaging`: it needs a package index or its cache, and a minute. The libraries are those of the lock.
"""

import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.packaging
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
_LOCKED = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^ ;\\]+)( ?;[^\\]*)?", re.MULTILINE)


@frozen
class House:
    """Where wheels are: ours, and those of all libraries that any extra brings."""

    wheel: Path
    directory: Path


@frozen
class Environment:
    """An environment with our wheel in it, and nothing that was not asked for."""

    directory: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Return what a program of this environment did, somewhere where no checkout is."""
        program, *rest = arguments
        return subprocess.run(
            [str(self.directory / "bin" / program), *rest],
            cwd=self.directory,
            env={"PATH": f"{self.directory}/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    def require(self, *arguments: str) -> str:
        """Return what it printed. It succeeds."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refuses_with(self, line: str, *arguments: str) -> None:
        """It ends with exit code 2 and this line alone."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"Error: {line}\n")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    directory = tmp_path_factory.mktemp("house")
    build = [*_PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", str(directory), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = directory.glob("nixfleet-*.whl")
    constraints = directory / "constraints.txt"
    locked = _LOCKED.findall((ROOT / "requirements/dev.lock").read_text(encoding="utf-8"))
    constraints.write_text("".join(f"{name}=={version}{when}\n" for name, version, when in locked))
    fetched = subprocess.run(
        [*_PIP, "wheel", "-w", str(directory), "-c", str(constraints), f"{wheel}[cli,testing]"],
        check=False,
        capture_output=True,
        text=True,
    )
    if fetched.returncode:
        pytest.skip(f"no package index: {fetched.stderr.strip().splitlines()[-1]}")
    return House(wheel, directory)


def _installed(house: House, directory: Path, extra: str) -> Environment:
    venv.create(directory, with_pip=False)
    wanted = f"{house.wheel}[{extra}]" if extra else str(house.wheel)
    offline = ("--no-index", "--find-links", str(house.directory))
    subprocess.run(
        [*_PIP, "--python", str(directory / "bin/python"), "install", *offline, wanted],
        check=True,
        capture_output=True,
    )
    return Environment(directory)


NO_COMMAND = "nixfleet needs the extra \"cli\": pip install 'nixfleet[cli]'"
STEP = """
from datetime import UTC, datetime
from nixfleet_proto.agent_event import DispatchAck
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine import HostRolloutState, Local, step

now = datetime(2026, 5, 16, tzinfo=UTC)
host = HostRolloutState.pending(
    RolloutId("stable@r1"), "web-01", "stable", "new", dispatched_at=now, soak_due_at=now
)
print(step(host, Local(DispatchAck("old", now, 1)), now, RolloutPolicy())[0].state)
"""
SIGN = """
from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import KeySlot, TrustRoot
import nixfleet_agent.engine.engine, nixfleet_agent.journal.journal, nixfleet_release, nixfleet_secrets
import nixfleet_control_plane.engine.engine, nixfleet_control_plane.store.sqlite_store
import nixfleet_control_plane.service
print(encode_trust_root(TrustRoot(KeySlot(SigningKey.generate().public_key)))[:1].decode())
"""
SERVE = """
import nixfleet_agent.main, nixfleet_agent.network.http_transport
from nixfleet_control_plane.http.app import ALL_CALLS
from nixfleet_control_plane.http.openapi import openapi_document
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.http.server.server import server_config
import nixfleet_control_plane.main
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
print(issubclass(server_config(lambda: None, Limits(), shutdown_seconds_max=1).http, HttpToolsProtocol))
"""
TEST = """
from hypothesis import given, settings, strategies as st
from nixfleet_state_machine import HostRolloutState

@settings(max_examples=5)
@given(st.from_type(HostRolloutState))
def check(record):
    assert record.hostname

check()
import importlib, pkgutil, nixfleet_testing
for module in pkgutil.walk_packages(nixfleet_testing.__path__, "nixfleet_testing."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("tested")
"""


def test_a_plain_install_steps_and_names_the_extra_of_the_command(
    house: House, tmp_path: Path
) -> None:
    """The pure packages need attrs and typing-extensions alone."""
    environment = _installed(house, tmp_path, "")
    assert environment.require("python", "-c", STEP) == "Activating\n"
    assert environment.require("nixfleet", "--version").startswith("nixfleet ")
    environment.refuses_with(NO_COMMAND, "nixfleet", "demo")
    environment.refuses_with(NO_COMMAND, "python", "-m", "nixfleet_cli", "status", "x.db")


def test_the_runtime_extra_signs_and_stores_without_a_network(house: House, tmp_path: Path) -> None:
    """Both engines, their stores, releases and secrets are there."""
    environment = _installed(house, tmp_path, "runtime")
    assert environment.require("python", "-c", SIGN) == "{\n"
    environment.refuses_with(NO_COMMAND, "nixfleet", "keys", "new", "x")


def test_the_http_extra_serves(house: House, tmp_path: Path) -> None:
    """The control plane's server and the agent's transport are there, with the connection that is subclassed."""
    environment = _installed(house, tmp_path, "http")
    assert environment.require("python", "-c", SERVE) == "True\n"
    # uvicorn brings click, so that commands run here; rich is missing.
    no_demo = "nixfleet demo needs the extra \"cli\": pip install 'nixfleet[cli]'"
    environment.refuses_with(no_demo, "nixfleet", "demo")


def test_the_cli_extra_alone_runs_the_command(house: House, tmp_path: Path) -> None:
    """All of it: a whole demonstration, a simulation, the vectors, and every help."""
    environment = _installed(house, tmp_path, "cli")
    assert environment.require("nixfleet", "--version").startswith("nixfleet ")
    assert "6 Converged" in environment.require("nixfleet", "demo", "--speed", "600")
    assert "openapi" in environment.require("nixfleet", "openapi")
    assert "every promise held" in environment.require("nixfleet", "simulate", "--days", "0.01")
    environment.require("nixfleet", "conformance", "--record", "vectors")
    for command in ("control-plane", "agent", "operator", "enroll"):
        environment.require("nixfleet", command, "--help")


def test_the_testing_extra_tests(house: House, tmp_path: Path) -> None:
    """Strategies are found by type, and every contract and vector module can be imported."""
    environment = _installed(house, tmp_path, "testing")
    assert environment.require("python", "-c", TEST) == "tested\n"
