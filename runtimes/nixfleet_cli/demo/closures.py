"""The closures of the demonstration: a little shop, as directory trees that are real to an activator.

Nothing here knows of agents or of the control plane. A tree is built, given its health checks and its
name by `nixfleet_release`, and moved to where its host keeps closures; from then on it never changes.
"""

from pathlib import Path

from attrs import frozen

HEALTH_PAGE = "healthz"
WEB_ROOT = "www"
SWITCH_HISTORY = "switches.log"
SWITCH_PID = "switching.pid"
HELD_UP = "held-up"
"""While a host has this file, beside its profile, its switches take as long."""
NO_ROOM = "no-room"
"""If a host has this file, beside its profile, its next switch removes it and fails."""

_SWITCH = f"""\
#!/bin/sh
# What a system would do here: restart what changed. This one keeps a history beside the profile.
set -eu
cd "$(dirname "$NIXFLEET_PROFILE")"
echo $$ > {SWITCH_PID}
while test -e {HELD_UP}; do sleep 0.05; done
if test -e {NO_ROOM}; then rm {NO_ROOM}; echo "no space left on device" >&2; exit 1; fi
echo "$NIXFLEET_CLOSURE" >> {SWITCH_HISTORY}
"""

_CHECK_CONFIGURATION = """\
#!/bin/sh
# An exec probe that the closure brings along, under the hash that is signed.
exec grep -q '^listen = ' "$(dirname "$0")/../etc/shop.conf"
"""

_CHECK_PAGES = f"""\
#!/bin/sh
exec test -s "$(dirname "$0")/../{WEB_ROOT}/index.html"
"""


@frozen
class ShopVersion:
    """One version of what the fleet runs. `health` is what its health page says."""

    number: int
    health: str = "ready"

    @property
    def name(self) -> str:
        """What the version is called, in closures and in answers."""
        return f"shop-{self.number}"

    @property
    def health_page(self) -> str:
        """What a host that runs this version answers when asked for its health."""
        return f"{self.name}: {self.health}\n"


def build_tree(directory: Path, version: ShopVersion) -> Path:
    """Write the tree of `version` into `directory`, and return it. It has no health checks and no name yet."""
    tree = directory / version.name
    _write(tree / "etc/shop.conf", f"version = {version.number}\nlisten = 127.0.0.1\n")
    _write(tree / WEB_ROOT / "index.html", f"<h1>{version.name}</h1>\n")
    _write(tree / WEB_ROOT / HEALTH_PAGE, version.health_page)
    _write_script(tree / "bin/switch-to-configuration", _SWITCH)
    _write_script(tree / "bin/check-configuration", _CHECK_CONFIGURATION)
    _write_script(tree / "bin/check-pages", _CHECK_PAGES)
    return tree


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_script(path: Path, text: str) -> None:
    _write(path, text)
    path.chmod(0o755)
