"""What an agent that was restarted makes of a switch that is on record, and what keeps the way back open."""

import json
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_agent.activation.activator import (
    SWITCH_SCRIPT,
    Prepared,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
    SwitchOutcome,
    SwitchPhase,
)
from nixfleet_agent.activation.nixos.activator import OnFailedUnits
from tests.agent.fake_nixos import FakeNixos, Parts, PassingClock, Switch, point

pytestmark = pytest.mark.anyio

ORDER = "stable@r2#7"


@pytest.fixture
def nixos(tmp_path: Path) -> FakeNixos:
    return FakeNixos(tmp_path, PassingClock())


async def _again(nixos: FakeNixos, closure: str) -> SwitchOutcome:
    """Give the same order to an agent that has just started; require that it switches nothing."""
    fired = len(_fired(nixos))
    outcome = await nixos.activator().switch(closure, order_id=ORDER)
    assert len(_fired(nixos)) == fired
    return outcome


def _fired(nixos: FakeNixos) -> list[str]:
    return [
        each for each in nixos.commands if each.startswith("systemd-run --unit=nixfleet-switch")
    ]


# The same result, whether the agent was restarted or not.


@pytest.mark.parametrize("exit_code", [0, 1, 2, 4, 11, 100, 137])
async def test_an_agent_that_restarts_after_the_switch_reads_the_same_result(
    exit_code: int, nixos: FakeNixos
) -> None:
    """The unit keeps the exit code of its script, after a success too."""
    old, new = nixos.add("old"), nixos.add("new", Switch(exit_code=exit_code, journal="said"))
    nixos.boot(old)

    first = await nixos.activator().switch(new, order_id=ORDER)

    assert await _again(nixos, new) == first


async def test_a_deferred_switch_found_after_a_restart_is_deferred(nixos: FakeNixos) -> None:
    """What is left to the next boot is not fired again."""
    old, new = nixos.add("old"), nixos.add("new", parts=Parts(kernel="linux-6.18"))
    nixos.boot(old)
    await nixos.activator().switch(new, order_id=ORDER)

    assert await _again(nixos, new) == SwitchDeferred("kernel")


async def test_a_reboot_into_the_new_system_completes_the_switch(nixos: FakeNixos) -> None:
    """The machine went down in the middle and came up with what was selected."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    await nixos.activator().switch(new, order_id=ORDER)
    nixos.reboot(new)

    assert await _again(nixos, new) == SwitchCompleted(new, 0)


# A machine that was brought back.


async def test_a_machine_rescued_at_the_boot_menu_is_not_switched_again(nixos: FakeNixos) -> None:
    """The older system booted although the new one is selected: the switch has failed."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    await nixos.activator().switch(new, order_id=ORDER)
    nixos.reboot(old)

    outcome = await _again(nixos, new)

    assert isinstance(outcome, SwitchFailed)
    assert (outcome.phase, outcome.exit_code) == (SwitchPhase.CONFIRM, 125)
    assert outcome.stderr_tail == (
        f"was brought back: {nixos.current_system}: expected {new} after its switch, found {old}"
    )


async def test_a_machine_rescued_by_hand_is_not_switched_again(nixos: FakeNixos) -> None:
    """Somebody selected and activated the older system in the same boot: the unit still has its result."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    await nixos.activator().switch(new, order_id=ORDER)
    for link in (nixos.profile, nixos.current_system):
        point(link, nixos.store / old)
    assert nixos.unit is not None
    nixos.unit.flips_to = None

    outcome = await _again(nixos, new)

    reason = (
        f"was brought back: {nixos.current_system}: expected {new} after its switch, found {old}"
    )
    assert outcome == SwitchFailed(SwitchPhase.CONFIRM, 125, reason)


async def test_a_machine_whose_profile_was_moved_is_not_switched_again(nixos: FakeNixos) -> None:
    """Somebody selected the older system and reset the unit: no reboot is needed to tell."""
    old, new = nixos.add("old"), nixos.add("new", Switch(exit_code=1, flips_to="nothing"))
    nixos.switches[new].flips_to = None
    nixos.boot(old)
    await nixos.activator().switch(new, order_id=ORDER)
    point(nixos.profile, nixos.store / old)
    nixos.unit = None

    assert isinstance(await _again(nixos, new), SwitchFailed)


async def test_the_next_order_switches_a_rescued_machine(nixos: FakeNixos) -> None:
    """A record speaks of its own order only: another attempt is carried out."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    await nixos.activator().switch(new, order_id=ORDER)
    nixos.reboot(old)

    assert await nixos.activator().switch(new, order_id="stable@r2#8") == SwitchCompleted(new, 0)


async def test_a_switch_that_was_not_started_is_carried_out_after_a_restart(
    nixos: FakeNixos,
) -> None:
    """The agent ended after the record and before systemd was asked: nothing has happened yet."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    await nixos.activator().switch(new, order_id=ORDER)
    nixos.unit = None
    point(nixos.current_system, nixos.store / old)

    assert await nixos.activator().switch(new, order_id=ORDER) == SwitchCompleted(new, 0)
    assert len(_fired(nixos)) == 2


async def test_a_rollback_cut_off_by_a_reboot_is_carried_out(nixos: FakeNixos) -> None:
    """The way back is repeated until the older system runs: it was nobody's rescue."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(new)
    await nixos.activator().rollback(old, order_id=ORDER)
    nixos.reboot(new)

    assert await nixos.activator().rollback(old, order_id=ORDER) == RollbackFinished(old, 0)
    assert await nixos.activator().current() == old


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"order_id": 7}', "\x00", "null"])
async def test_a_record_that_cannot_be_read_counts_as_none(text: str, nixos: FakeNixos) -> None:
    """The order is carried out, and put on record."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    record = nixos.activator().attempt_file
    record.parent.mkdir()
    record.write_text(text, encoding="utf-8")

    assert await nixos.activator().switch(new, order_id=ORDER) == SwitchCompleted(new, 0)
    assert json.loads(record.read_text(encoding="utf-8")) == {
        "order_id": ORDER,
        "closure": new,
        "running": old,
        "boot_id": "boot 1",
        "failed_units": [],
        "is_armed": True,
    }


async def test_a_switch_that_cannot_be_put_on_record_is_not_started(nixos: FakeNixos) -> None:
    """A full disk fails the switch instead of losing what an agent after it would need."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    nixos.activator().attempt_file.parent.write_text("no directory", encoding="utf-8")

    outcome = await nixos.activator().switch(new, order_id=ORDER)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.phase is SwitchPhase.SWITCH
    assert _fired(nixos) == []


# Units that fail.


async def test_units_that_fail_in_a_switch_are_named_and_the_switch_is_done(
    nixos: FakeNixos,
) -> None:
    """Exit code 4 is a switch that was done. Units that had failed before it are not its own."""
    old = nixos.add("old")
    new = nixos.add("new", Switch(exit_code=4, fails=("web.service", "mail.service")))
    nixos.boot(old)
    nixos.failed_units |= {"printer.service", "nixfleet-switch.service"}

    outcome = await nixos.activator().switch(new, order_id=ORDER)

    assert outcome == SwitchCompleted(new, 4, ("mail.service", "web.service"))
    assert await _again(nixos, new) == outcome


async def test_units_that_fail_fail_the_switch_where_the_agent_says_so(nixos: FakeNixos) -> None:
    """The reason has their names and the end of the switch's output."""
    old = nixos.add("old")
    new = nixos.add("new", Switch(exit_code=4, fails=("web.service",), journal="said"))
    nixos.boot(old)
    strict = evolve(nixos.activator(), on_failed_units=OnFailedUnits.FAIL)

    outcome = await strict.switch(new, order_id=ORDER)

    assert outcome == SwitchFailed(SwitchPhase.SWITCH, 4, "units failed: web.service\nsaid")


async def test_a_rollback_counts_whatever_units_fail(nixos: FakeNixos) -> None:
    """The older system runs again; its units are named."""
    old, new = nixos.add("old", Switch(exit_code=4, fails=("web.service",))), nixos.add("new")
    nixos.boot(new)

    assert await nixos.activator().rollback(old) == RollbackFinished(
        old, 0, "units failed: web.service"
    )


async def test_a_switch_that_finds_the_lock_held_waits_for_it(nixos: FakeNixos) -> None:
    """Somebody's own switch is under way: exit code 11, with nothing changed, is tried again."""
    old, new = nixos.add("old"), nixos.add("new", Switch(locked=3))
    nixos.boot(old)

    assert await nixos.activator().switch(new, order_id=ORDER) == SwitchCompleted(new, 0)
    assert len(_fired(nixos)) == 4


async def test_a_lock_that_is_held_for_longer_than_the_limit_fails_the_switch(
    nixos: FakeNixos,
) -> None:
    """Waiting ends with the limit of the switch."""
    old, new = nixos.add("old"), nixos.add("new", Switch(locked=1_000))
    nixos.boot(old)

    outcome = await nixos.activator().switch(new, 60)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.exit_code == 11


# What keeps the way back open.


async def test_the_system_to_go_back_to_is_kept_from_the_garbage_collector(
    nixos: FakeNixos,
) -> None:
    """Both systems of a switch are, and after a rollback the older one is both."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    roots = nixos.activator().roots

    await nixos.activator().switch(new)

    assert (roots / "target").readlink().name == new
    assert (roots / "rollback").readlink().name == old

    await nixos.activator().rollback(old)

    assert (roots / "target").readlink().name == old
    assert (roots / "rollback").readlink().name == old


async def test_a_generation_that_exists_is_selected_and_none_is_made(nixos: FakeNixos) -> None:
    """Going back adds no generation, and the one that failed is removed, so that nobody boots it."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    await nixos.activator().switch(new)
    assert nixos.generations() == {"1": old, "2": new}

    await nixos.activator().rollback(old)

    assert nixos.generations() == {"1": old}


async def test_a_system_without_a_switch_script_is_refused_before_the_profile_is_set(
    nixos: FakeNixos,
) -> None:
    """A store path that is no NixOS system changes nothing on the machine."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    (nixos.store / new / SWITCH_SCRIPT).unlink()

    outcome = await nixos.activator().switch(new)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.phase is SwitchPhase.VERIFY
    assert nixos.profile.resolve().name == old


# Systems that say themselves what cannot be replaced.


@pytest.mark.parametrize(
    ("before", "after", "component"),
    [
        ('{"dbus": "a", "kernel": "1"}', '{"dbus": "b", "kernel": "2"}', "dbus"),
        ('{"kernel": "1"}', '{"kernel": "2"}', "kernel"),
        ('{"kernel": "1"}', '{"kernel": "1"}', None),
        ('{"dbus": "a"}', '{"kernel": "2"}', None),
        ("{}", '{"kernel": "2"}', None),
    ],
)
async def test_inhibitors_of_both_systems_decide_alone(
    before: str, after: str, component: str | None, nixos: FakeNixos
) -> None:
    """A name that both have with two values defers the switch. That the kernels differ too does not matter."""
    old = nixos.add("old", parts=Parts(inhibitors=before))
    new = nixos.add("new", parts=Parts(kernel="linux-6.18", inhibitors=after))
    nixos.boot(old)

    outcome = await nixos.activator().switch(new)

    expected = SwitchCompleted(new, 0) if component is None else SwitchDeferred(component)
    assert outcome == expected


@pytest.mark.parametrize("inhibitors", ["", "not JSON", "[]"])
async def test_without_readable_inhibitors_the_components_are_compared(
    inhibitors: str, nixos: FakeNixos
) -> None:
    """One of the systems is older, or its file is spoilt."""
    old = nixos.add("old", parts=Parts(inhibitors='{"kernel": "1"}'))
    new = nixos.add("new", parts=Parts(kernel="linux-6.18", inhibitors=inhibitors))
    nixos.boot(old)

    assert await nixos.activator().switch(new) == SwitchDeferred("kernel")


async def test_the_kernel_is_compared_with_the_one_that_booted(nixos: FakeNixos) -> None:
    """A system that was switched to live has another kernel than the one that runs."""
    booted = nixos.add("booted", parts=Parts(kernel="linux-6.18"))
    running, new = nixos.add("running"), nixos.add("new", parts=Parts(kernel="linux-6.18"))
    nixos.boot(booted)
    point(nixos.current_system, nixos.store / running)

    assert await nixos.activator().switch(new) == SwitchCompleted(new, 0)


async def test_preparing_keeps_the_target_and_nothing_else(nixos: FakeNixos) -> None:
    """A closure that was fetched long before its switch is still there then."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)

    assert await nixos.activator().prepare(new) == Prepared(new)
    assert [link.name for link in nixos.activator().roots.iterdir()] == ["target"]


# The way back of a lost agent.


async def test_a_switch_sets_the_way_back_before_it_begins(nixos: FakeNixos) -> None:
    """It leads to what ran, with that system's own programs, and starts its agent."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)

    await nixos.activator().switch(new, order_id=ORDER)

    assert nixos.dead_man == "/agent/switch.way-back"
    script = nixos.activator().attempt_file.with_name("switch.way-back")
    assert script.read_text(encoding="utf-8").replace(str(nixos.directory), "") == (
        "systemctl stop nixfleet-switch.service\n"
        f"nix-env -p /profiles/system --set /store/{old}\n"
        f"/store/{old}/bin/switch-to-configuration switch\n"
        "systemctl --no-block start nixfleet-agent.service\n"
    )


async def test_an_answer_of_the_control_plane_ends_the_way_back_once(nixos: FakeNixos) -> None:
    """Later answers run nothing."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    await nixos.activator().switch(new, order_id=ORDER)

    await nixos.activator().answered()

    assert nixos.dead_man == ""
    ran = len(nixos.commands)
    await nixos.activator().answered()
    assert len(nixos.commands) == ran
    assert await _again(nixos, new) == SwitchCompleted(new, 0)


async def test_an_answer_on_a_machine_that_never_switched_runs_nothing(nixos: FakeNixos) -> None:
    """There is no record."""
    nixos.boot(nixos.add("old"))

    await nixos.activator().answered()

    assert nixos.commands == []


async def test_a_rollback_ends_the_way_back_and_sets_none(nixos: FakeNixos) -> None:
    """It would lead to the system that failed."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    await nixos.activator().switch(new, order_id=ORDER)

    await nixos.activator().rollback(old)

    assert nixos.dead_man == ""


async def test_a_rollback_ends_the_switch_that_failed_and_is_still_under_way(
    nixos: FakeNixos,
) -> None:
    """A switch that restarts its agent again and again would never be seen to end."""
    old, new = nixos.add("old"), nixos.add("new", Switch(seconds=10_000))
    nixos.boot(old)
    nixos.fire(new)
    began = nixos.clock.now()

    assert await nixos.activator().rollback(old, ORDER) == RollbackFinished(old, 0)
    assert (nixos.clock.now() - began).total_seconds() < 60


async def test_a_deferred_switch_sets_no_way_back(nixos: FakeNixos) -> None:
    """What runs stays, and so does its agent."""
    old, new = nixos.add("old"), nixos.add("new", parts=Parts(kernel="linux-6.18"))
    nixos.boot(old)

    await nixos.activator().switch(new, order_id=ORDER)

    assert nixos.dead_man == ""


async def test_a_machine_without_a_dead_man_sets_no_way_back(nixos: FakeNixos) -> None:
    """Zero seconds are none."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)

    await evolve(nixos.activator(), dead_man_seconds=0.0).switch(new, order_id=ORDER)

    assert nixos.dead_man == ""


async def test_a_machine_that_the_timer_brought_back_is_not_switched_again(
    nixos: FakeNixos,
) -> None:
    """The agent of the older system reports that its switch was undone."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    await nixos.activator().switch(new, order_id=ORDER)
    nixos.unit = None
    for link in (nixos.profile, nixos.current_system):
        point(link, nixos.store / old)

    outcome = await _again(nixos, new)

    assert isinstance(outcome, SwitchFailed)
    assert outcome.stderr_tail.startswith("was brought back: ")
