"""Switching a NixOS machine: live, at the next boot, and back."""

from pathlib import Path

import pytest

from nixfleet_agent.activation.activator import (
    Activator,
    NoRunningClosure,
    Prepared,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
)
from nixfleet_agent.activation.nixos.activator import NixosActivator
from tests.agent.fake_nixos import (
    FakeNixos,
    Parts,
    PassingClock,
    Switch,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def nixos(tmp_path: Path) -> FakeNixos:
    return FakeNixos(tmp_path, PassingClock())


@pytest.fixture
def activator(nixos: FakeNixos) -> NixosActivator:
    return nixos.activator()


def test_nixos_activator_is_an_activator(activator: NixosActivator, nixos: FakeNixos) -> None:
    """It has all that an agent asks of an activator, and says how it switches."""
    port: Activator = activator

    assert port.switch_method == "systemd-run"
    assert port.root_of("x") == nixos.store / "x"


async def test_switching_to_another_system_runs_each_step_in_order(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """A switch realises, sets the profile and fires the new system's own script, detached."""
    old, new = nixos.add("old"), nixos.add("new", Switch(seconds=3))
    nixos.boot(old)

    outcome = await activator.switch(new)

    assert outcome == SwitchCompleted(new, 0)
    assert await activator.current() == new
    show = (
        "systemctl show nixfleet-switch.service "
        "--property=LoadState,ActiveState,SubState,ExecMainCode,ExecMainStatus,InvocationID"
    )
    assert nixos.commands == [
        show,
        f"nix-store --realise /store/{new} --add-root /gcroots/target",
        f"nix-store --realise /store/{old} --add-root /gcroots/rollback",
        f"nix-env -p /profiles/system --set /store/{new}",
        "systemctl list-units --state=failed --plain --no-legend",
        "systemctl stop nixfleet-switch.service",
        "systemctl reset-failed nixfleet-switch.service",
        "systemctl stop nixfleet-dead-man.timer",
        "systemd-run --unit=nixfleet-dead-man --on-active=1200s --timer-property=AccuracySec=1s --collect "
        "--no-ask-password --quiet -- /bin/sh /agent/switch.way-back",
        "systemd-run --unit=nixfleet-switch --service-type=exec --remain-after-exit "
        "--property=ExecStopPost=-systemctl --no-block start nixfleet-agent.service "
        f"--no-ask-password --quiet -- /store/{new}/bin/switch-to-configuration switch",
        show,
        show,
        show,
    ]


async def test_no_program_of_the_running_system_is_ever_run(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """Every script is run by its store path, and never through `/run/current-system`."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)

    await activator.switch(new)
    await activator.rollback(old)

    assert not [command for command in nixos.commands if "current-system" in command]


async def test_switching_to_what_runs_completes_and_runs_nothing(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """A repeated order is done already: systemd is asked, and nothing else is run."""
    web = nixos.add("web")
    nixos.boot(web)

    assert await activator.switch(web) == SwitchCompleted(web, 0)
    assert all(command.startswith("systemctl show") for command in nixos.commands)


async def test_switching_to_a_system_in_the_cache_fetches_it(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """A system that is not in the store yet is fetched, with the longer limit, before anything."""
    old, new = nixos.add("old"), nixos.add("new", in_cache=True)
    nixos.boot(old)

    assert await activator.prepare(new) == Prepared(new)
    assert nixos.times_out == [3600.0]
    assert await activator.switch(new) == SwitchCompleted(new, 0)


@pytest.mark.parametrize("closure", ["../../etc", "--help", "nixos-system"])
async def test_preparing_what_is_no_closure_name_fails_and_runs_nothing(
    activator: NixosActivator, nixos: FakeNixos, closure: str
) -> None:
    """A name that is no closure's never becomes an argument."""
    outcome = await activator.prepare(closure)

    assert isinstance(outcome, SwitchFailed)
    assert repr(closure) in outcome.stderr_tail
    assert nixos.commands == []


@pytest.mark.parametrize(
    ("parts", "component"),
    [
        (Parts(dbus="unit-dbus-broker/dbus-broker.service"), "dbus"),
        (Parts(systemd="systemd-258"), "systemd"),
        (Parts(kernel="linux-6.18"), "kernel"),
        (Parts(init="systemd 3"), "init"),
        (Parts(systemd="systemd-258", kernel="linux-6.18"), "systemd"),
    ],
)
async def test_system_that_cannot_be_swapped_live_is_left_to_the_next_boot(
    activator: NixosActivator, nixos: FakeNixos, parts: Parts, component: str
) -> None:
    """Profile and bootloader are set, outside the agent's own unit, and the old system still runs."""
    old, new = nixos.add("old"), nixos.add("new", parts=parts)
    nixos.boot(old)

    outcome = await activator.switch(new)

    assert outcome == SwitchDeferred(component)
    fired = [
        each for each in nixos.commands if each.startswith("systemd-run --unit=nixfleet-switch")
    ]
    assert [command.split(" -- ")[1] for command in fired] == [
        f"/store/{new}/bin/switch-to-configuration boot"
    ]
    assert nixos.profile.resolve().name == new
    assert await activator.current() == old


async def test_rebuilt_unit_of_the_same_dbus_is_switched_live(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """Another build of the same message bus is no reason to wait for a boot."""
    old, new = (
        nixos.add("old"),
        nixos.add("new", parts=Parts(dbus="unit-dbus-rebuilt/dbus.service")),
    )
    nixos.boot(old)

    assert await activator.switch(new) == SwitchCompleted(new, 0)


async def test_machine_without_kernel_and_dbus_is_switched_live(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """What neither system has, as in a container, does not differ."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(old)
    for closure in (old, new):
        (nixos.store / closure / "kernel").unlink()
        (nixos.store / closure / "etc" / "systemd" / "system" / "dbus.service").unlink()

    assert await activator.switch(new) == SwitchCompleted(new, 0)


async def test_rolling_back_switches_to_the_older_system_by_its_store_path(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """A rollback sets the profile back and fires the older system's own script."""
    old, new = nixos.add("old"), nixos.add("new")
    nixos.boot(new)

    assert await activator.rollback(old) == RollbackFinished(old, 0)
    assert nixos.profile.resolve().name == old
    assert [command for command in nixos.commands if f"/store/{old}/bin/" in command]


async def test_rolling_back_from_a_deferred_system_sets_the_profile_back(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """Although the older system still runs, what the next boot would bring is taken back."""
    old, new = nixos.add("old"), nixos.add("new", parts=Parts(kernel="linux-6.18"))
    nixos.boot(old)
    await activator.switch(new)

    assert await activator.rollback(old) == RollbackFinished(old, 0)
    assert nixos.profile.resolve().name == old


async def test_asking_for_the_running_system_where_there_is_none_is_an_error(
    activator: NixosActivator, nixos: FakeNixos
) -> None:
    """A machine that is no NixOS has no running system, and the error names the link."""
    with pytest.raises(NoRunningClosure) as missing:
        await activator.current()

    assert missing.value.link == nixos.current_system
