"""The activator of git commits, with real git and a real repository."""

import subprocess
from pathlib import Path

import pytest

from nixfleet_agent.activation.activator import (
    ClosureNotHere,
    NoRunningClosure,
    Prepared,
    RollbackFinished,
    SwitchCompleted,
    SwitchFailed,
)
from nixfleet_agent.activation.command import CommandActivator
from nixfleet_proto.health_check import HEALTH_CHECKS_PATH
from tests.activators.scripts import activator_of, set_up

pytestmark = pytest.mark.anyio
AUTHOR = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")


class Repository:
    """A repository of an application, with a commit for each text."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self._git("init", "--quiet")

    def commit(self, text: str) -> str:
        """Commit `text` as the application, and return the commit."""
        checks = self.directory / HEALTH_CHECKS_PATH
        checks.parent.mkdir(parents=True, exist_ok=True)
        checks.write_text("{}")
        (self.directory / "app").write_text(text)
        self._git("add", "--all")
        self._git(*AUTHOR, "commit", "--quiet", "--message", text)
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.directory), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def activator(tmp_path: Path, repository: Repository) -> CommandActivator:
    """The activator of a machine on which nothing runs yet, and whose service is none."""
    settings = {
        "REPOSITORY": str(repository.directory),
        "PLACE": str(tmp_path / "place"),
        "SERVICE": "",
    }
    files = str(tmp_path / "place" / "checkouts" / "{closure}")
    return activator_of("git.sh", settings, tmp_path, files=files)


async def test_a_commit_is_checked_out_and_comes_back(
    activator: CommandActivator, repository: Repository, tmp_path: Path
) -> None:
    """Two commits run one after the other, and the first again."""
    first, second = repository.commit("one"), repository.commit("two")
    app = tmp_path / "place" / "current" / "app"

    assert await activator.prepare(first) == Prepared(first)
    with pytest.raises(NoRunningClosure):
        await activator.current()
    set_up(activator, first)
    assert await activator.switch(second) == SwitchCompleted(second, 0)
    assert app.read_text() == "two"
    assert await activator.rollback(first) == RollbackFinished(first, 0)
    assert app.read_text() == "one"


async def test_the_health_checks_of_a_commit_are_among_its_files(
    activator: CommandActivator, repository: Repository
) -> None:
    """The agent looks for them there once the commit is prepared."""
    commit = repository.commit("one")
    await activator.prepare(commit)
    assert (activator.root_of(commit) / HEALTH_CHECKS_PATH).read_text() == "{}"


async def test_a_commit_that_was_not_pushed_yet_is_waited_for(
    activator: CommandActivator, repository: Repository
) -> None:
    """And is there when it was pushed."""
    repository.commit("one")
    coming = "0" * 40
    assert isinstance(await activator.prepare(coming), ClosureNotHere)


async def test_a_repository_that_is_away_is_waited_for(
    activator: CommandActivator, repository: Repository
) -> None:
    """What was fetched before is used all the same."""
    here, fetched = repository.commit("one"), repository.commit("two")
    await activator.prepare(here)
    repository.directory.rename(repository.directory.with_name("away"))

    assert await activator.prepare(here) == Prepared(here)
    assert await activator.prepare(fetched) == Prepared(fetched)
    assert isinstance(await activator.prepare("f" * 40), ClosureNotHere)


async def test_a_name_that_is_a_branch_is_not_taken_for_a_commit(
    activator: CommandActivator, repository: Repository
) -> None:
    """It moves, so nothing would check what it names."""
    await activator.prepare(repository.commit("one"))
    for name in ("master", "fetched/heads/master", "HEAD"):
        outcome = await activator.prepare(name)
        assert isinstance(outcome, SwitchFailed)
        assert "expected a whole commit" in outcome.stderr_tail
