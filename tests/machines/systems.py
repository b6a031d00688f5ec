"""Systems for the machine in the container: what a NixOS system has, and a switch script that does as NixOS's does.

The script was written after what NixOS documents of `switch-to-configuration`: it takes a lock, stops the units that
differ, activates, starts them, and ends with 4 if some did not start. What it does besides is up to the test.
"""

from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_units.units import UnitOptions, unit_of
from tests.machines.bench import Machine

AGENT_UNIT: Final = "nixfleet-agent.service"
_SCRIPT: Final = r"""#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
out=$(dirname "$(dirname "$(readlink -f "$0")")")
exec 9>/run/switch-to-configuration.lock
flock --nonblock 9 || { echo "Could not acquire lock" >&2; exit 11; }
if [ "$1" = boot ]; then exit 0; fi
@before@
changed=
for unit in "$out"/etc/systemd/system/*.service; do
    name=$(basename "$unit")
    if ! cmp --silent "$unit" "/etc/systemd/system/$name"; then
        changed="$changed $name"
        systemctl stop "$name" 2>/dev/null
    fi
done
@stopped@
ln --symbolic --force --no-dereference "$out" /run/current-system
cp "$out"/etc/systemd/system/*.service /etc/systemd/system/
systemctl daemon-reload
failed=0
for name in $changed; do
    systemctl start "$name" || failed=1
done
@after@
[ $failed = 0 ] || exit 4
"""


@frozen
class System:
    """What one system is made of.

    agent: the program of its agent; `None`: the one of every system, whose unit stays. before, stopped, after: shell,
    run before units are stopped, once they are, and at the end of a switch. units: other units, by name.
    """

    name: str
    agent: str | None = None
    before: str = ""
    stopped: str = ""
    after: str = ""
    units: tuple[tuple[str, str], ...] = ()


def agent_unit(program: str, config: str, comment: str = "") -> str:
    """Return the unit as `nixfleet units` prints it, for files and a program that may lie in a home or in /tmp."""
    unit = unit_of("agent", UnitOptions(program, config))
    return f"# {comment}\n{unit.text}\n[Service]\nReadWritePaths=/site\nProtectHome=no\nPrivateTmp=no\n"


def lay(system: System, tree: Path, program: str, config: str) -> None:
    """Write the files of the system into `tree`, an empty directory. program, config: of the agent."""
    units = tree / "etc/systemd/system"
    units.mkdir(parents=True)
    own = agent_unit(system.agent or program, config, system.name if system.agent else "")
    for name, text in ((AGENT_UNIT, own), *system.units):
        (units / name).write_text(text, encoding="utf-8")
    script = tree / "bin" / "switch-to-configuration"
    script.parent.mkdir()
    text = _SCRIPT
    for place in ("before", "stopped", "after"):
        text = text.replace(f"@{place}@", getattr(system, place))
    script.write_text(text, encoding="utf-8")
    script.chmod(0o755)
    (tree / "init-interface-version").write_text("systemd 2", encoding="utf-8")
    # Closures of one content would be one closure.
    (tree / "system").write_text(system.name, encoding="utf-8")


def install(machine: Machine, closure: str) -> None:
    """Let `closure` run and boot, as after the installation of a machine. Its agent is not started."""
    path = f"/nix/store/{closure}"
    machine.run("nix-env", "-p", "/nix/var/nix/profiles/system", "--set", path)
    for link in ("/run/current-system", "/run/booted-system"):
        machine.run("ln", "-sfn", path, link)
    machine.run("sh", "-c", f"cp {path}/etc/systemd/system/*.service /etc/systemd/system/")
    machine.run("systemctl", "daemon-reload")
