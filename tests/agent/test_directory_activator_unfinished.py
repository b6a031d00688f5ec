"""Unfinished switches of the directory activator: a failing script, a timeout, cancellation, a crash.

The closure of an unfinished switch does not count as running, and the next switch runs its script. `ActivatorContract`
has the general part of that.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from nixfleet_agent.activation.activator import (
    SwitchCompleted,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_runtime.releases.nar import closure_name_of

pytestmark = pytest.mark.anyio

AGENT = """
import sys
from pathlib import Path
import anyio
from nixfleet_agent.activation.directory import DirectoryActivator
store, profile, closure = sys.argv[1:]
anyio.run(DirectoryActivator(Path(store), Path(profile)).switch, closure)
"""


@pytest.fixture
def activator(tmp_path: Path) -> DirectoryActivator:
    (tmp_path / "store").mkdir()
    return DirectoryActivator(tmp_path / "store", tmp_path / "profile", switch_timeout_seconds=30)


def _add(activator: DirectoryActivator, name: str, script: str = "") -> str:
    """Put a closure into the store whose script notes its runs in `<profile>.ran`."""
    tree = activator.store / name
    (tree / "bin").mkdir(parents=True)
    switch = tree / "bin" / "switch-to-configuration"
    note = 'echo "$NIXFLEET_CLOSURE" >> "$NIXFLEET_PROFILE.ran"'
    switch.write_text(f"#!/bin/sh\n{note}\n{script}\n", encoding="utf-8")
    switch.chmod(0o755)
    closure = closure_name_of(tree, name)
    tree.rename(activator.store / closure)
    return closure


def _ran(activator: DirectoryActivator) -> list[str]:
    """Return the closures whose scripts ran, in order, and forget them."""
    notes = activator.profile.with_name("profile.ran")
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    notes.unlink(missing_ok=True)
    return lines


async def test_script_that_fails_gives_its_exit_code_and_words(
    activator: DirectoryActivator,
) -> None:
    """A failed script is a failed switch, with phase, exit code and what it said."""
    web = _add(activator, "web", "echo no disk >&2; exit 4")

    outcome = await activator.switch(web)

    assert outcome == SwitchFailed(SwitchPhase.SWITCH, 4, "no disk\n")
    assert str(outcome) == "failed at switch: exit status 4: no disk"


async def test_script_that_says_much_has_its_end_kept(activator: DirectoryActivator) -> None:
    """Of what a failed script said the last 4 KiB are kept."""
    web = _add(activator, "web", "yes | head -c 9000 >&2; printf why >&2; exit 1")

    outcome = await activator.switch(web)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.stderr_tail.endswith("y\nwhy")
    assert len(outcome.stderr_tail) == 4096


async def test_script_that_cannot_be_started_fails(activator: DirectoryActivator) -> None:
    """A script whose interpreter is missing fails the switch as a shell would."""
    tree = activator.store / "web"
    (tree / "bin").mkdir(parents=True)
    script = tree / "bin" / "switch-to-configuration"
    script.write_text("#!/no/such/program\n")
    script.chmod(0o755)
    web = closure_name_of(tree, "web")
    tree.rename(activator.store / web)

    outcome = await activator.switch(web)

    assert isinstance(outcome, SwitchFailed)
    assert (outcome.phase, outcome.exit_code) == (SwitchPhase.SWITCH, 127)


async def test_switch_after_two_failures_still_knows_what_ran_last(
    activator: DirectoryActivator,
) -> None:
    """The last closure whose switch ended well is kept through any number of failures."""
    old, one, two = (
        _add(activator, "old"),
        _add(activator, "1", "exit 1"),
        _add(activator, "2", "exit 2"),
    )
    await activator.switch(old)

    await activator.switch(one)
    await activator.switch(two)

    assert await activator.current() == old


async def test_script_over_its_time_is_stopped(tmp_path: Path) -> None:
    """A script that takes too long is stopped, and the switch failed."""
    (tmp_path / "store").mkdir()
    activator = DirectoryActivator(
        tmp_path / "store", tmp_path / "profile", switch_timeout_seconds=0.2
    )
    web = _add(activator, "web", "sleep 1000")

    outcome = await activator.switch(web)

    assert isinstance(outcome, SwitchFailed)
    assert (outcome.phase, outcome.exit_code) == (SwitchPhase.SWITCH, 124)
    assert outcome.stderr_tail.startswith("stopped after 0.2 s")


async def test_script_over_the_limit_it_was_given_is_stopped(
    activator: DirectoryActivator,
) -> None:
    """What is left of an activation deadline may be less than the activator's own limit."""
    web = _add(activator, "web", "sleep 1000")

    outcome = await activator.switch(web, 0.2)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.stderr_tail.startswith("stopped after 0.2 s")


async def test_cancelled_switch_stops_its_script_and_stays_unfinished(
    activator: DirectoryActivator,
) -> None:
    """An agent that stops takes the script and its children along, and the old closure runs."""
    lifeline = activator.profile.with_name("lifeline")
    os.mkfifo(lifeline)
    old = _add(activator, "old")
    new = _add(activator, "new", f"exec 3>{lifeline}; echo up >&3; sleep 1000 & sleep 1000")
    await activator.switch(old)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(activator.switch, new)
        reader = await anyio.to_thread.run_sync(os.open, lifeline, os.O_RDONLY)
        assert await anyio.to_thread.run_sync(os.read, reader, 3) == b"up\n"
        tasks.cancel_scope.cancel()

    # The end of the pipe comes when nobody holds it any more.
    assert await anyio.to_thread.run_sync(os.read, reader, 3) == b""
    os.close(reader)
    assert await activator.current() == old


async def test_agent_killed_within_a_switch_finishes_it_after_its_restart(
    activator: DirectoryActivator,
) -> None:
    """A crash while the script runs leaves the old closure running; the same order finishes."""
    crash = '[ -e "$NIXFLEET_PROFILE.crashed" ] || { touch "$NIXFLEET_PROFILE.crashed"; kill -9 $PPID; }'
    old, new = _add(activator, "old"), _add(activator, "new", crash)
    await activator.switch(old)
    _ran(activator)
    command = [sys.executable, "-c", AGENT, str(activator.store), str(activator.profile), new]
    killed = await anyio.to_thread.run_sync(lambda: subprocess.run(command, check=False))

    assert killed.returncode == -signal.SIGKILL
    assert await activator.current() == old
    assert await activator.switch(new) == SwitchCompleted(new, 0)
    assert _ran(activator) == [new, new]


@pytest.mark.parametrize("new_machine", [False, True])
@pytest.mark.parametrize("profile_moved", [False, True])
async def test_crash_between_any_two_steps_is_finished_by_the_same_order(
    activator: DirectoryActivator, new_machine: bool, profile_moved: bool
) -> None:
    """Wherever a crash fell, the same order runs the script and ends with the closure running."""
    old, new = _add(activator, "old"), _add(activator, "new")
    if not new_machine:
        await activator.switch(old)
    activator.switching_from.symlink_to("nothing" if new_machine else activator.store / old)
    activator.switching_from.with_name(".profile.new").symlink_to("left by the crash")
    if profile_moved:
        activator.profile.unlink(missing_ok=True)
        activator.profile.symlink_to(activator.store / new)
    _ran(activator)

    assert await activator.switch(new) == SwitchCompleted(new, 0)
    assert _ran(activator) == [new]
    assert await activator.current() == new


async def test_profile_that_cannot_be_replaced_fails_before_the_script(
    activator: DirectoryActivator, tmp_path: Path
) -> None:
    """When the links cannot be written the switch fails at profile-set and runs nothing."""
    nowhere = DirectoryActivator(activator.store, tmp_path / "missing" / "profile")
    web = _add(activator, "web")

    outcome = await nowhere.switch(web)

    assert isinstance(outcome, SwitchFailed)
    assert (outcome.phase, outcome.exit_code) == (SwitchPhase.PROFILE_SET, 125)
    assert "missing" in outcome.stderr_tail
    assert _ran(activator) == []
