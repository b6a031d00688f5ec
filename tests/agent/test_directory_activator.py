"""The directory activator beyond `ActivatorContract`: links, scripts, checks of trees, texts of outcomes."""

import os
import socket
from pathlib import Path

import pytest

from nixfleet_agent.activation.activator import (
    Activator,
    ClosureMismatch,
    ClosureNotHere,
    NoRunningClosure,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_runtime.releases.nar import closure_name_of

pytestmark = pytest.mark.anyio

SCRIPT = 'echo "$NIXFLEET_CLOSURE $1" >> "$RUNS"\n'


class DirectoryMachine:
    """A store and a profile in a real directory. Each script that runs leaves a line in `runs`."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "store"
        self.store.mkdir()
        self.profile = directory / "profile"
        self.runs = directory / "runs"
        self.runs.touch()
        self.activator = DirectoryActivator(
            self.store,
            self.profile,
            switch_timeout_seconds=30,
            environment={"RUNS": str(self.runs)},
        )

    def add(self, name: str, script: str | None = SCRIPT) -> str:
        """Put a closure with this script into the store; return its full name."""
        tree = self.store / name
        (tree / "bin").mkdir(parents=True)
        (tree / "name").write_text(name, encoding="utf-8")
        if script is not None:
            switch = tree / "bin" / "switch-to-configuration"
            switch.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
            switch.chmod(0o755)
        closure = closure_name_of(tree, name)
        tree.rename(self.store / closure)
        return closure

    def ran(self) -> list[str]:
        """Return `closure argument` of each script that ran, in order, and forget them."""
        lines = self.runs.read_text(encoding="utf-8").splitlines()
        self.runs.write_text("", encoding="utf-8")
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> DirectoryMachine:
    return DirectoryMachine(tmp_path)


def test_directory_activator_is_an_activator(machine: DirectoryMachine) -> None:
    """It has all that an agent asks of an activator, and says how it switches."""
    activator: Activator = machine.activator

    assert activator.switch_method == "directory"
    assert activator.root_of("x") == machine.store / "x"


async def test_asking_for_the_running_closure_of_a_new_machine_is_an_error(
    machine: DirectoryMachine,
) -> None:
    """Before the first switch nothing runs, and the error names the link that is missing."""
    with pytest.raises(NoRunningClosure) as missing:
        await machine.activator.current()

    assert missing.value.link == machine.profile
    assert str(machine.profile) in str(missing.value)


async def test_switching_a_new_machine_makes_the_closure_the_running_one(
    machine: DirectoryMachine,
) -> None:
    """The first switch runs the closure's script, and the profile leads to its files."""
    web = machine.add("web-1")

    outcome = await machine.activator.switch(web)

    assert outcome == SwitchCompleted(web, 0)
    assert await machine.activator.current() == web
    assert machine.ran() == [f"{web} switch"]
    assert (machine.profile / "name").read_text(encoding="utf-8") == "web-1"


async def test_switching_to_a_closure_without_a_script_completes(machine: DirectoryMachine) -> None:
    """A closure need not have a script: selecting it is then all there is to do."""
    plain = machine.add("plain", script=None)

    assert await machine.activator.switch(plain) == SwitchCompleted(plain, 0)
    assert await machine.activator.current() == plain


async def test_script_gets_the_documented_environment_and_nothing_else(
    machine: DirectoryMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script sees PATH, what the activator was given and its own closure; no other variable."""
    monkeypatch.setenv("TOKEN", "secret")
    web = machine.add("web", 'echo "$PWD ${TOKEN-none}" > "$RUNS"; env | cut -d= -f1 >> "$RUNS"')

    await machine.activator.switch(web)

    here, *names = machine.ran()
    assert here == f"{machine.store / web} none"
    assert set(names) - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH",
        "RUNS",
        "NIXFLEET_CLOSURE",
        "NIXFLEET_CLOSURE_ROOT",
        "NIXFLEET_PROFILE",
    }


async def test_profile_leads_to_the_new_closure_when_its_script_runs(
    machine: DirectoryMachine,
) -> None:
    """The profile is replaced before the script runs, so what it starts finds the new files."""
    old = machine.add("old")
    new = machine.add("new", 'cat "$NIXFLEET_PROFILE/name" > "$RUNS"')
    await machine.activator.switch(old)

    await machine.activator.switch(new)

    assert machine.ran() == ["new"]


async def test_tree_that_was_altered_is_refused_with_both_names(machine: DirectoryMachine) -> None:
    """A tree that does not hash to its name is not switched to; the outcome has both hashes."""
    old, new = machine.add("old"), machine.add("new")
    await machine.activator.switch(old)
    machine.ran()
    (machine.store / new / "name").write_text("altered", encoding="utf-8")
    actual = closure_name_of(machine.store / new, "new")

    outcome = await machine.activator.switch(new)

    assert outcome == ClosureMismatch(expected=new, actual=actual)
    assert str(outcome) == f"expected closure {new}, found {actual}"
    assert await machine.activator.current() == old
    assert machine.profile.readlink() == machine.store / old
    assert machine.ran() == []


@pytest.mark.parametrize("closure", ["web", "../elsewhere", "", f"{'0' * 52}-a/../../b"])
async def test_preparing_what_is_no_closure_name_fails(
    machine: DirectoryMachine, closure: str
) -> None:
    """A name that is no closure's never becomes a path."""
    outcome = await machine.activator.prepare(closure)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.phase is SwitchPhase.REALISE
    assert repr(closure) in outcome.stderr_tail


async def test_preparing_a_closure_that_is_not_in_the_store_finds_it_not_here(
    machine: DirectoryMachine,
) -> None:
    """A closure that is missing may come: the reason has the path that was looked at."""
    missing = f"{'0' * 52}-web"

    outcome = await machine.activator.prepare(missing)

    expected = f"{machine.store / missing}: expected the directory of the closure, found nothing"
    assert outcome == ClosureNotHere(expected)


async def test_preparing_a_link_in_the_store_fails(
    machine: DirectoryMachine, tmp_path: Path
) -> None:
    """A link in the store is refused: its hash would say nothing about what it leads to."""
    (machine.store / "link").symlink_to(tmp_path)
    closure = closure_name_of(machine.store / "link", "web")
    (machine.store / "link").rename(machine.store / closure)

    outcome = await machine.activator.prepare(closure)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.phase is SwitchPhase.REALISE
    assert outcome.stderr_tail.endswith("found something else")


async def test_preparing_a_tree_that_cannot_be_hashed_fails(machine: DirectoryMachine) -> None:
    """A socket in the tree fails the check, by its path."""
    web = machine.add("web")
    with socket.socket(socket.AF_UNIX) as server:
        # Bound by a relative name: the whole path would be too long for a socket's.
        descriptor = os.open(machine.store / web, os.O_PATH)
        server.bind(f"/proc/self/fd/{descriptor}/sock")
        os.close(descriptor)

    outcome = await machine.activator.prepare(web)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.phase is SwitchPhase.VERIFY
    assert f"{web}/sock" in outcome.stderr_tail


async def test_script_that_exits_100_is_a_deferred_switch(machine: DirectoryMachine) -> None:
    """Exit 100 means at the next boot: the profile is set, and the old closure still runs."""
    old, new = machine.add("old"), machine.add("new", f"{SCRIPT}exit 100")
    await machine.activator.switch(old)

    outcome = await machine.activator.switch(new)

    assert outcome == SwitchDeferred("init")
    assert machine.profile.readlink() == machine.store / new
    assert await machine.activator.current() == old


async def test_boot_after_a_deferred_switch_has_the_new_closure_running(
    machine: DirectoryMachine,
) -> None:
    """Once a boot has emptied the place of `switching_from`, what the profile leads to runs."""
    old, new = machine.add("old"), machine.add("new", f"{SCRIPT}exit 100")
    await machine.activator.switch(old)
    await machine.activator.switch(new)
    machine.ran()

    machine.activator.switching_from.unlink()

    assert await machine.activator.current() == new
    assert await machine.activator.switch(new) == SwitchCompleted(new, 0)
    assert machine.ran() == []


async def test_switching_back_from_a_deferred_closure_sets_the_profile_back(
    machine: DirectoryMachine,
) -> None:
    """Although the old closure still runs, going back to it takes back what the boot would do."""
    old, new = machine.add("old"), machine.add("new", "exit 100")
    await machine.activator.switch(old)
    await machine.activator.switch(new)
    machine.ran()

    assert await machine.activator.switch(old) == SwitchCompleted(old, 0)
    assert machine.profile.readlink() == machine.store / old
    assert machine.ran() == [f"{old} switch"]


async def test_rolling_back_to_an_altered_tree_is_refused(machine: DirectoryMachine) -> None:
    """A rollback target is checked like any other; what runs stays, and both names are told."""
    old, new = machine.add("old"), machine.add("new")
    await machine.activator.switch(old)
    await machine.activator.switch(new)
    (machine.store / old / "name").unlink()

    outcome = await machine.activator.rollback(old)

    assert outcome.exit_code == 125
    assert outcome.current_closure == new
    assert f"expected closure {old}, found " in outcome.stderr_tail
    assert await machine.activator.current() == new


async def test_rolling_back_with_a_script_that_fails_does_not_count_as_done(
    machine: DirectoryMachine,
) -> None:
    """A rollback whose script fails has its exit code and words, however often it is tried."""
    old = machine.add("old", '[ ! -e "$RUNS.broken" ] || { echo stuck >&2; exit 5; }')
    new = machine.add("new", 'touch "$RUNS.broken"')
    await machine.activator.switch(old)
    await machine.activator.switch(new)

    first = await machine.activator.rollback(old)
    second = await machine.activator.rollback(old)

    assert first == second == RollbackFinished(new, 5, "stuck\n")


async def test_rolling_back_to_what_needs_a_boot_does_not_count_as_done(
    machine: DirectoryMachine,
) -> None:
    """A rollback that takes effect at the next boot only is reported with exit code 100."""
    old = machine.add("old", '[ ! -e "$RUNS.kernel" ] || exit 100')
    new = machine.add("new", 'touch "$RUNS.kernel"')
    await machine.activator.switch(old)
    await machine.activator.switch(new)

    outcome = await machine.activator.rollback(old)

    assert (outcome.current_closure, outcome.exit_code) == (new, 100)
    assert "init cannot be replaced while running" in outcome.stderr_tail


async def test_closure_with_a_link_that_leads_out_is_refused(machine: DirectoryMachine) -> None:
    """What a link outside the tree leads to is covered by no hash: nothing is selected, nothing runs."""
    tree = machine.store / "web"
    tree.mkdir()
    (tree / "etc").symlink_to("/etc")
    web = closure_name_of(tree, "web")
    tree.rename(machine.store / web)

    outcome = await machine.activator.switch(web)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.phase is SwitchPhase.VERIFY
    assert "etc: expected a link inside the closure, found one to '/etc'" in outcome.stderr_tail
    assert not machine.profile.is_symlink()


async def test_closure_with_a_file_that_everybody_can_write_is_refused(
    machine: DirectoryMachine,
) -> None:
    """The hash does not cover the mode, and somebody could change the file after it was checked."""
    web = machine.add("web-1")
    (machine.store / web / "bin" / "switch-to-configuration").chmod(0o777)

    outcome = await machine.activator.switch(web)

    assert isinstance(outcome, SwitchFailed)
    assert "bin/switch-to-configuration: expected a mode without" in outcome.stderr_tail
    assert machine.ran() == []


async def test_store_that_everybody_can_write_is_refused(machine: DirectoryMachine) -> None:
    """A closure could be exchanged between its check and its activation."""
    web = machine.add("web-1")
    machine.store.chmod(0o777)

    outcome = await machine.activator.switch(web)

    assert isinstance(outcome, SwitchFailed)
    assert "expected a store that not everybody can write" in outcome.stderr_tail
