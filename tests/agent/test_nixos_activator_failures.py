"""A switch of a NixOS machine that goes wrong: at which step, and what is said about it."""

from datetime import timedelta
from pathlib import Path

import pytest

from nixfleet_agent.activation.activator import (
    ClosureMismatch,
    ClosureNotHere,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.activation.nixos.activator import NixosActivator
from nixfleet_runtime.process.command import CommandOutcome
from tests.agent.fake_nixos import (
    DONE,
    FakeNixos,
    Parts,
    PassingClock,
    Switch,
    point,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def nixos(tmp_path: Path) -> FakeNixos:
    return FakeNixos(tmp_path, PassingClock())


@pytest.fixture
def activator(nixos: FakeNixos) -> NixosActivator:
    return nixos.activator()


async def test_system_that_cannot_be_realised_is_not_here_and_changes_nothing(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """What Nix cannot get may come later: the reason has Nix's words; the profile stays."""
    old = nixos.add("old")
    nixos.boot(old)
    missing = f"{'f' * 32}-nixos-system-new"

    outcome = await activator.switch(missing)

    found = f"exit status 1: error: path {missing} is not valid"
    assert outcome == ClosureNotHere(f"failed at realise: {found}")
    assert nixos.profile.resolve().name == old


async def test_fetch_out_of_time_is_not_here_and_says_so(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """A fetch that had to be stopped can be begun again, and the reason says that it was stopped."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    nixos.broken["nix-store"] = CommandOutcome(124, stderr_tail="copying…", timed_out=True)

    outcome = await activator.switch(new)

    stopped = "nix-store was stopped after its time-out: copying…"
    assert outcome == ClosureNotHere(f"failed at realise: exit status 124: {stopped}")


async def test_profile_that_cannot_be_set_fails_before_the_switch(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """A failing nix-env fails at profile-set, and nothing is fired."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    nixos.broken["nix-env"] = CommandOutcome(1, stderr_tail="disk full")

    assert await activator.switch(new) == SwitchFailed(SwitchPhase.PROFILE_SET, 1, "disk full")
    assert nixos.unit is None


async def test_profile_that_leads_elsewhere_after_it_was_set_fails(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """The profile is read back: one that leads to another system fails, with both names."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    nixos.broken["nix-env"] = DONE

    outcome = await activator.switch(new)

    reason = f"{nixos.profile}: expected a link to {new}, found {old}"
    assert outcome == SwitchFailed(SwitchPhase.PROFILE_SET, 125, reason)


async def test_switch_that_cannot_be_fired_fails(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """When systemd refuses the unit the switch failed, with systemd's words."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    nixos.broken["systemd-run"] = CommandOutcome(1, stderr_tail="Access denied")

    assert await activator.switch(new) == SwitchFailed(SwitchPhase.SWITCH, 1, "Access denied")


async def test_bootloader_that_cannot_be_installed_fails(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """A deferred switch whose bootloader fails is a failed one: no boot would bring it."""
    full = Switch(exit_code=1, journal="/boot is full")
    old, new = nixos.add("old"), nixos.add("new", full, parts=Parts(kernel="linux-6.18"))
    nixos.boot(old)

    assert await activator.switch(new) == SwitchFailed(SwitchPhase.BOOTLOADER, 1, "/boot is full")


async def test_switch_that_fails_gives_its_exit_code_and_its_journal(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """An activation script that failed is a failed switch, although it went on and its system runs by now."""
    old = nixos.add("old")
    new = nixos.add(
        "new", Switch(exit_code=2, journal="Activation script snippet 'users' failed\n")
    )
    nixos.boot(old)

    outcome = await activator.switch(new)

    said = "Activation script snippet 'users' failed\n"
    assert outcome == SwitchFailed(SwitchPhase.SWITCH, 2, said)
    assert await activator.current() == new


async def test_switch_ended_by_a_signal_has_a_shells_exit_code(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """A unit that signal 9 ended has exit code 137."""
    old, new = nixos.add("old"), nixos.add("new", Switch(exit_code=137))
    nixos.boot(old)

    outcome = await activator.switch(new)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.exit_code == 137


async def test_switch_that_failed_before_does_not_stand_in_the_way(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """The unit of an earlier failure is cleared away before the next switch is fired."""
    old, bad, new = nixos.add("old"), nixos.add("bad", Switch(exit_code=1)), nixos.add("new")
    nixos.boot(old)
    await activator.switch(bad)

    assert await activator.switch(new) == SwitchCompleted(new, 0)


async def test_switch_that_says_100_is_deferred(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """Exit 100 of the script itself means that init waits for a boot."""
    old = nixos.add("old")
    new = nixos.add("new", Switch(exit_code=100, flips_to=old))
    nixos.boot(old)

    assert await activator.switch(new) == SwitchDeferred("init")


async def test_switch_that_ends_well_without_changing_the_system_fails(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """A unit that ended well while the old system still runs is not taken at its word."""
    old = nixos.add("old")
    new = nixos.add("new", Switch(flips_to=old))
    nixos.boot(old)

    outcome = await activator.switch(new)

    assert outcome == SwitchFailed(
        SwitchPhase.CONFIRM,
        125,
        f"was brought back: {nixos.current_system}: expected {new} after its switch, found {old}",
    )


async def test_third_system_that_took_over_is_refused(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """When neither the old nor the new system runs in the end, both names are told."""
    old, third = nixos.add("old"), nixos.add("third")
    new = nixos.add("new", Switch(flips_to=third))
    nixos.boot(old)

    assert await activator.switch(new) == ClosureMismatch(expected=new, actual=third)


@pytest.mark.parametrize(("asked", "limit"), [(60.0, 60), (3600.0, 600)])
async def test_switch_longer_than_the_limit_it_was_given_is_stopped(
    asked: float, limit: int, activator: NixosActivator, nixos: FakeNixos
) -> None:
    """The unit is stopped when the activation deadline is over, and after 600 s in any case."""
    old, new = nixos.add("old"), nixos.add("new", Switch(seconds=10_000))
    nixos.boot(old)

    outcome = await activator.switch(new, asked)

    assert outcome == SwitchFailed(
        SwitchPhase.CONFIRM, 124, f"nixfleet-switch was stopped after {limit} s"
    )


async def test_switch_longer_than_600_seconds_is_stopped(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """A switch that is under way after 600 s is stopped and failed, and rolled back at once."""
    old, new = nixos.add("old"), nixos.add("new", Switch(seconds=10_000))
    nixos.boot(old)
    started = nixos.clock.now()

    outcome = await activator.switch(new)

    reason = "nixfleet-switch was stopped after 600 s"
    assert outcome == SwitchFailed(SwitchPhase.CONFIRM, 124, reason)
    assert nixos.clock.now() - started == timedelta(seconds=600)
    assert await activator.rollback(old) == RollbackFinished(old, 0)


async def test_switch_found_under_way_that_never_ends_is_stopped(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """An order that finds a stuck switch waits as long as for its own, stops it, and fails."""
    old, new = nixos.add("old"), nixos.add("new", Switch(seconds=10_000))
    nixos.boot(old)
    nixos.fire(new)

    outcome = await activator.switch(new)

    assert isinstance(outcome, SwitchFailed)
    assert (outcome.phase, outcome.exit_code) == (SwitchPhase.CONFIRM, 124)
    assert nixos.unit is None


async def test_systemd_that_does_not_answer_for_a_while_is_asked_again(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """While systemd restarts itself the switch counts as under way."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    nixos.silent_systemctl_calls = 3

    assert await activator.switch(new) == SwitchCompleted(new, 0)


async def test_agent_restarted_by_its_own_switch_waits_for_its_end(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """The same order, given while the unit is under way, fires nothing and reports its success."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    point(nixos.profile, nixos.store / new)
    nixos.fire(new)

    assert await activator.switch(new) == SwitchCompleted(new, 0)
    assert not [command for command in nixos.commands if command.startswith("systemd-run")]


async def test_rolling_back_that_fails_says_what_still_runs(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """A failed rollback has its exit code, its journal and the system that runs."""
    new = nixos.add("new")
    old = nixos.add("old", Switch(exit_code=2, flips_to=new, journal="activation failed\n"))
    nixos.boot(new)

    assert await activator.rollback(old) == RollbackFinished(new, 2, "activation failed\n")
