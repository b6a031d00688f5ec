"""What differs between two systems and cannot be replaced while it runs. Reads files; runs nothing.

A system says it itself in `switch-inhibitors` (NixOS 26.05 and later): a JSON object of names and values. Both
systems have it: a name with two values defers the switch, and nothing else does. Otherwise dbus, systemd, kernel and
init are compared.
Source: docs/spec/host-machine.md, Deferred; nixpkgs, nixos/modules/system/activation/switchable-system.nix.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from nixfleet_runtime.storage.regular_file import read_regular_file

INHIBITORS_FILE: Final = "switch-inhibitors"
_Identity: TypeAlias = Path | str | None


def deferring_component(running: Path, target: Path, booted: Path | None = None) -> str | None:
    """Return the component that differs between two systems and cannot be replaced live, `None` if none does.

    The first of several. booted: the system that booted, whose kernel is the one that runs; `running` if not given.
    """
    now, then = inhibitors_of(running), inhibitors_of(target)
    if now is not None and then is not None:
        return next((name for name in sorted(now) if then.get(name, now[name]) != now[name]), None)
    for component, identity_in, is_of_boot in _COMPONENTS:
        before = booted if is_of_boot and booted is not None and booted.exists() else running
        if identity_in(before) != identity_in(target):
            return component
    return None


def inhibitors_of(system: Path) -> Mapping[str, object] | None:
    """Return what the system says of itself, `None` if it says nothing that can be read."""
    file = system / INHIBITORS_FILE
    if not file.is_file():
        return None
    try:
        found = json.loads(read_regular_file(file))
    except ValueError:
        return None  # Its own switch script refuses it; the four comparisons decide.
    return found if isinstance(found, dict) else None


def resolved(path: Path) -> Path | None:
    """Return the final target of `path`, `None` when it does not exist."""
    return path.resolve() if path.exists() else None


def _dbus_in(system: Path) -> _Identity:
    # Compares the implementation, not the build: its unit changes whenever a service is added, and a
    # live switch does not restart it while the implementation is the same.
    unit = resolved(system / "etc/systemd/system/dbus.service")
    return unit.name if unit else None


def _systemd_in(system: Path) -> _Identity:
    return resolved(system / "systemd")


def _kernel_in(system: Path) -> _Identity:
    return resolved(system / "kernel")


def _init_in(system: Path) -> _Identity:
    # `init` itself contains the name of its system, so it always differs; NixOS compares this version.
    version = system / "init-interface-version"
    return read_regular_file(version).decode() if version.is_file() else None


_COMPONENTS: Final[tuple[tuple[str, Callable[[Path], _Identity], bool], ...]] = (
    ("dbus", _dbus_in, False),
    ("systemd", _systemd_in, False),
    ("kernel", _kernel_in, True),
    ("init", _init_in, False),
)
"""Name, how it is identified in a system, and whether the one that runs is that of the boot."""
