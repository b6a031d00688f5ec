"""Both services as the units that ship, with their sandboxes, on one machine."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from nixfleet_units.units import UnitOptions, unit_of
from tests.faults.waiting import PATIENCE_SECONDS
from tests.machines.conftest import AGENT, Bench
from tests.machines.systems import AGENT_UNIT, System, install

pytestmark = pytest.mark.anyio

UNIT = "nixfleet-control-plane.service"
DATABASE = "/var/lib/nixfleet-control-plane/control-plane.db"


def with_control_plane_as_unit(bench: Bench, *options: str) -> None:
    """Start the control plane in the machine, where its agent looks for it. options: of [Service], in a drop-in."""
    directory = bench.site.directory
    text = (
        (directory / "control-plane.toml").read_text().replace(str(bench.site.database), DATABASE)
    )
    (directory / "unit.toml").write_text(text)
    _let_others_enter(bench)
    unit = unit_of("control-plane", UnitOptions(AGENT, "/site/unit.toml"))
    # The program and the files of the bench may be in a home or in /tmp.
    drop_in = "\n".join(("[Service]", "ProtectHome=no", "PrivateTmp=no", *options))
    units = bench.machine.root / "etc/systemd/system"
    (units / UNIT).write_text(f"{unit.text}\n{drop_in}\n")
    bench.machine.run("systemctl", "daemon-reload")
    bench.machine.run("systemctl", "start", UNIT)


def _let_others_enter(bench: Bench) -> None:
    """The unit's user comes to the files of the bench and to Python, also where those lie in the home of root."""
    bench.machine.run("chmod", "0755", "/site")
    for directory in (*Path(AGENT).parents, *Path(sys.executable).resolve().parents):
        bench.machine.run("chmod", "o+x", str(directory), check=False)


def property_of(bench: Bench, unit: str, name: str) -> str:
    """Return what systemd knows of a unit."""
    return bench.machine.run("systemctl", "show", "--value", f"--property={name}", unit).strip()


async def until(is_so: Callable[[], bool]) -> None:
    """Look again until it is so. Raises: TimeoutError."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while not is_so():  # noqa: ASYNC110  # nothing in the machine tells us
            await anyio.sleep(0.2)


async def test_a_bad_release_is_rolled_back_when_both_services_are_units(bench: Bench) -> None:
    """A good release converges and a bad one is reverted: what both do fits into what their units permit."""
    await bench.site.control_plane.stop()
    with_control_plane_as_unit(bench)
    install(bench.machine, bench.build(System("old")))
    bench.machine.run("systemctl", "start", AGENT_UNIT)

    good = bench.build(System("good"))
    bench.publish("r1", good)
    await until(lambda: state_of(bench, "stable@r1") == "Terminal")
    bench.publish("r2", bench.build(System("bad", before="exit 2")))
    await until(lambda: state_of(bench, "stable@r2") == "Reverted")

    await until(lambda: bench.running() == good)
    await until(lambda: "stable@r2 is Reverted" in property_of(bench, AGENT_UNIT, "StatusText"))
    assert "1 Reverted" in property_of(bench, UNIT, "StatusText")


def state_of(bench: Bench, rollout_id: str) -> str | None:
    """Return the state of a rollout, as `nixfleet status` reads it from the database in the machine."""
    shown = bench.machine.run(AGENT, "status", DATABASE, "--json")
    rollouts = json.loads(shown)["rollouts"]
    return next((it["state"] for it in rollouts if it["rolloutId"] == rollout_id), None)


async def test_a_control_plane_that_stands_still_is_started_again(bench: Bench) -> None:
    """Frozen, it gives no sign of life: the watchdog ends it, and the next one opens the database that it left."""
    await bench.site.control_plane.stop()
    with_control_plane_as_unit(bench, "WatchdogSec=2", "RestartSec=0")
    first = property_of(bench, UNIT, "MainPID")

    bench.machine.run("kill", "-STOP", first)
    await until(lambda: property_of(bench, UNIT, "NRestarts") == "1")
    await until(lambda: property_of(bench, UNIT, "ActiveState") == "active")

    assert property_of(bench, UNIT, "MainPID") != first
