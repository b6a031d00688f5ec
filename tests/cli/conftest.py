"""Databases to run commands on: made by the real engines and stores, in a script's own time."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_cli.main import main
from nixfleet_proto.agent_event import ProbeStatus
from tests.engines.small_fleet import Behaviour, SmallFleet

Invoke = Callable[..., Result]


@pytest.fixture
def nixfleet() -> Invoke:
    """`nixfleet` with these arguments, in this process."""

    def invoke(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, list(map(str, arguments)))

    return invoke


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    """A fleet that runs, on which r1 converged and r2 was reverted by its canary, web-01."""
    return _reverted_fleet(tmp_path)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of such a fleet at rest, made once. For `files` alone: nobody may change them."""
    directory = tmp_path_factory.mktemp("prepared")
    fleet = _reverted_fleet(directory)
    fleet.store.close()
    for agent in fleet.agents.values():
        agent.journal.close()
    return directory


@pytest.fixture
def files(prepared: Path, tmp_path: Path) -> Path:
    """The files of a fleet at rest on which r1 converged and r2 was reverted: the control plane's and the hosts'."""
    return Path(shutil.copytree(prepared, tmp_path / "files"))


@pytest.fixture
def database(files: Path) -> Path:
    """The control plane's of `files`."""
    return files / "control-plane.sqlite"


def _reverted_fleet(directory: Path) -> SmallFleet:
    fleet = SmallFleet(directory)
    fleet.publish("r1")
    fleet.pass_time(minutes=15)
    fleet.behaviour = Behaviour(
        probe={"r2-web-01": ProbeOutcome(ProbeStatus.FAIL, "expected 200, found 503")}
    )
    fleet.publish("r2")
    fleet.pass_time(minutes=5)
    return fleet
