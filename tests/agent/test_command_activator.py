"""An activator of commands: what each exit code means, and what commands that do it wrong lead to. Real processes."""

from pathlib import Path

import pytest

from nixfleet_agent.activation.activator import (
    ClosureMismatch,
    ClosureNotHere,
    NoRunningClosure,
    Prepared,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.activation.command import CommandActivator, CurrentNotKnown
from tests.contracts.command_machine import CommandMachine

pytestmark = pytest.mark.anyio


@pytest.fixture
async def machine(tmp_path: Path) -> CommandMachine:
    """A machine on which `old` runs, and `new` is there too."""
    machine = CommandMachine(tmp_path)
    for name in ("old", "new"):
        machine.add(name)
    await machine.boot("old")
    return machine


def shell(machine: CommandMachine, text: str, **command: str) -> CommandActivator:
    """Return an activator of which one command is a shell's. text: of the command that `command` names."""
    (name,) = command
    return machine.activator_of(
        machine.commands(**{name: ("/bin/sh", "-c", text, "-", "{closure}")})
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("exit 0", "found ''"),
        ("printf 'one\\ntwo\\n'", "found 'one\\ntwo'"),
        ("echo -n", "found ''"),
        ("echo 'a b'", "found 'a b'"),
        ("head -c 10000 /dev/zero | tr '\\0' x", "found 'xxx"),
        ("echo no such thing >&2; exit 1", "found exit code 1: no such thing"),
        ("kill -9 $$", "found exit code 137"),
        ("printf '\\377\\n'", "found '\ufffd'"),
    ],
)
async def test_a_current_that_names_nothing_says_what_it_said(
    machine: CommandMachine, text: str, found: str
) -> None:
    """An agent that does not know what runs does nothing, and its log has the command and its words."""
    activator = machine.activator_of(machine.commands(current=("/bin/sh", "-c", text)))

    with pytest.raises(CurrentNotKnown) as raised:
        await activator.current()

    assert str(raised.value).startswith("/bin/sh: expected the name of the running closure")
    assert found in str(raised.value)


async def test_a_machine_where_nothing_runs_yet_is_no_fault(machine: CommandMachine) -> None:
    """Exit code 3 is the answer, and no failure of the command."""
    activator = machine.activator_of(machine.commands(current=("/bin/sh", "-c", "exit 3")))

    with pytest.raises(NoRunningClosure) as raised:
        await activator.current()

    assert not isinstance(raised.value, CurrentNotKnown)


async def test_a_closure_that_is_not_here_yet_is_waited_for(machine: CommandMachine) -> None:
    """Exit code 75, with the reason that the command gave."""
    outcome = await machine.activator().prepare("other")
    assert outcome == ClosureNotHere("exit code 75: other is not here")


async def test_a_preparation_that_fails_is_a_failure_of_the_closure(
    machine: CommandMachine,
) -> None:
    """Any other exit code: asked again, it would fail again."""
    machine.spoil("new")
    outcome = await machine.activator().switch("new")
    assert outcome == SwitchFailed(SwitchPhase.REALISE, 1, "exit code 1: new has other content")
    assert machine.switched() == []


@pytest.mark.parametrize("name", ["-rf", "a b", "../x", "a/../b", "", "a\nb", "a;b", "x" * 256])
async def test_a_name_that_a_command_could_misread_is_refused_before_any_runs(
    machine: CommandMachine, name: str
) -> None:
    """It would be an option, two arguments, or a path out of the store."""
    activator = shell(machine, f"touch {machine.directory}/ran", prepare="")

    outcome = await activator.switch(name)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.phase is SwitchPhase.REALISE
    assert not (machine.directory / "ran").exists()


@pytest.mark.parametrize(
    "name", ["registry.example:5000/shop@sha256:" + "0" * 64, "v1.2.3", "0" * 40, "shop_1.2+b1~3"]
)
async def test_names_of_images_commits_and_versions_are_closures(
    machine: CommandMachine, name: str
) -> None:
    """Each is one argument, and its files are in one directory of the same parent."""
    activator = shell(machine, 'test "$1" = "' + name + '"', prepare="")

    assert await activator.prepare(name) == Prepared(name)
    assert activator.root_of(name).parent == activator.root_of("another").parent


async def test_a_switch_that_asks_to_be_run_again_is_no_failure(machine: CommandMachine) -> None:
    """Exit code 75 while the older closure runs: nothing was changed, so nothing is left to undo."""
    asking = shell(machine, "echo locked >&2; exit 75", switch="")

    assert await asking.switch("new") == ClosureNotHere("locked")
    assert await machine.activator().switch("old") == SwitchCompleted("old", 0)
    assert machine.switched() == []


async def test_a_deferred_switch_names_what_waits_for_the_boot(machine: CommandMachine) -> None:
    """The last line of what it wrote, or the system if it wrote nothing."""
    silent = shell(machine, "exit 100", switch="")
    talking = shell(machine, "echo staged; echo kernel; exit 100", switch="")

    assert await silent.switch("new") == SwitchDeferred("the system")
    assert await talking.switch("new") == SwitchDeferred("kernel")


async def test_a_switch_that_leaves_another_closure_running_has_not_switched(
    machine: CommandMachine,
) -> None:
    """Its exit code 0 counts for nothing: `current` decides."""
    lying = shell(machine, "true", switch="")

    assert await lying.switch("new") == ClosureMismatch("new", "old")


async def test_a_closure_that_is_not_well_is_rolled_back_from(machine: CommandMachine) -> None:
    """`confirm` fails it although it runs, and the way back runs its command."""
    unwell = shell(machine, "echo no answer >&2; exit 9", confirm="")

    outcome = await unwell.switch("new")

    assert outcome == SwitchFailed(SwitchPhase.CONFIRM, 9, "exit code 9: no answer")
    assert await machine.activator().rollback("old") == RollbackFinished("old", 0)
    assert machine.switched() == ["new", "old"]


async def test_a_rollback_has_a_command_of_its_own(machine: CommandMachine) -> None:
    """Where it is configured, `switch` is not run for the way back."""
    await machine.activator().switch("new")
    back = shell(machine, f'echo "$1" > {machine.directory}/current', rollback="")

    assert await back.rollback("old") == RollbackFinished("old", 0)
    assert machine.switched() == ["new"]


async def test_a_program_that_is_not_there_is_a_failure_with_its_name(
    machine: CommandMachine,
) -> None:
    """As in a shell, with exit code 127."""
    activator = machine.activator_of(machine.commands(switch=("/nowhere", "{closure}")))

    outcome = await activator.switch("new")

    assert isinstance(outcome, SwitchFailed)
    assert outcome.exit_code == 127
    assert "/nowhere: No such file or directory" in outcome.stderr_tail


async def test_a_command_is_told_once_that_the_control_plane_has_answered(
    machine: CommandMachine,
) -> None:
    """At every heartbeat the agent says so; the command runs for what runs now, and again after a switch."""
    told = machine.directory / "told"
    activator = shell(machine, f'echo "$1" >> {told}', answered="")

    for _ in range(3):
        await activator.answered()
    await activator.switch("new")
    await activator.answered()

    assert told.read_text().split() == ["old", "new"]


async def test_a_command_that_could_not_note_the_answer_is_told_again(
    machine: CommandMachine,
) -> None:
    """Its failure is an error of the heartbeat, with what it said."""
    again = machine.directory / "again"
    text = f"[ -e {again} ] && exit 0; touch {again}; echo no slot >&2; exit 1"
    activator = shell(machine, text, answered="")

    with pytest.raises(OSError, match="/bin/sh: exit code 1: no slot"):
        await activator.answered()

    await activator.answered()
