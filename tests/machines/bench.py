"""A machine with real systemd, dbus and nix in a container, for what no fake can show. No tests here.

The container's root is this machine's, with a layer on top that is thrown away, so everything installed here is there
too: nothing is downloaded. It shares the network, and the control plane runs outside.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import define

BOOT_SECONDS_MAX = 90.0
COMMAND_SECONDS_MAX = 60.0
_NEEDED = {
    "systemd-nspawn": "systemd-container",
    "nix-store": "nix-bin",
    "nsenter": "util-linux",
    "dbus-daemon": "dbus",
}
"""Programs, and the Debian packages that have them."""
_KEPT = {"nix-daemon.service"}
# They would take the ports and the time of the machine around it.
_MASKED = ("tmp.mount", "cron.service", "systemd-networkd.service", "systemd-resolved.service")


def missing() -> str | None:
    """Return why there can be no machine here; `None`: there can be one."""
    if os.geteuid() != 0:
        return "a machine in a container needs root"
    absent = [package for program, package in _NEEDED.items() if shutil.which(program) is None]
    return f"install {' '.join(absent)}" if absent else None


@define
class Machine:
    """A booted machine. Use it as a context manager.

    directory: an empty one, for its layer. shared: a directory that it has too, as `/site`.
    """

    directory: Path
    shared: Path
    _nspawn: "subprocess.Popen[bytes] | None" = None
    _leader: int = 0

    @property
    def root(self) -> Path:
        """Where its root is seen from here."""
        return self.directory / "root"

    def __enter__(self) -> Self:
        _run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", str(self.directory)])
        try:
            self._lay_root()
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in the machine; return what it printed. Raises: AssertionError, if it fails."""
        entered = ["nsenter", f"--target={self._leader}", "--all", "--wd=/", *command]
        ended = subprocess.run(
            entered, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False
        )
        if check and ended.returncode != 0:
            journal = self.run("journalctl", "--no-pager", "--lines=30", check=False)
            raise AssertionError(f"{command}: {ended.stdout}{ended.stderr}\n{journal}")
        return ended.stdout

    def _lay_root(self) -> None:
        for name in ("upper", "work", "root"):
            (self.directory / name).mkdir()
        layers = f"lowerdir=/,upperdir={self.directory}/upper,workdir={self.directory}/work"
        _run(["mount", "-t", "overlay", "overlay", "-o", layers, str(self.root)])
        units = self.root / "etc/systemd/system"
        for unit in (*_MASKED, *self._services_of_this_machine()):
            _link(units / unit, "/dev/null")
        # systemd empties /tmp at boot, and with it what is bound there.
        _link(self.root / "etc/tmpfiles.d/tmp.conf", "/dev/null")
        (self.root / "etc/machine-id").unlink(missing_ok=True)
        (self.root / "etc/nix").mkdir(exist_ok=True)
        settings = "sandbox = false\nbuild-users-group =\nsubstituters =\n"
        (self.root / "etc/nix/nix.conf").write_text(settings, encoding="utf-8")
        # Its socket has the condition that its directory is there.
        (self.root / "nix/var/nix/daemon-socket").mkdir(parents=True, exist_ok=True)
        (self.root / "site").mkdir(exist_ok=True)

    def _services_of_this_machine(self) -> Sequence[str]:
        """What others have installed here: a database would start in the container too."""
        wanted = (self.root / "etc/systemd/system").glob("*.wants/*.service")
        return sorted({link.name for link in wanted if "@" not in link.name} - _KEPT)

    def _boot(self) -> None:
        with (self.directory / "console").open("wb") as console:
            self._nspawn = subprocess.Popen(
                [
                    *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"),
                    *(f"--bind={self.shared}:/site", f"--directory={self.root}", "--console=pipe"),
                    # The checkout may lie where the machine has a file system of its own.
                    f"--bind-ro={Path(__file__).parents[2]}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + BOOT_SECONDS_MAX
        while time.monotonic() < until and self._nspawn.poll() is None:
            self._leader = _child_of(self._nspawn.pid)
            if self._leader and self._is_up():
                self.run("systemctl", "start", "nix-daemon.socket")
                return
            time.sleep(0.2)
        said = (self.directory / "console").read_bytes()[-2000:].decode(errors="replace")
        raise AssertionError(f"the machine did not boot within {BOOT_SECONDS_MAX:g} s: {said}")

    def _is_up(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).strip()
        return state in ("running", "degraded")

    def _end(self) -> None:
        if self._leader:
            # Its first process: with it all others of the machine end. nspawn alone would leave them running.
            with suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGKILL)
        if self._nspawn is not None:
            self._nspawn.kill()
            self._nspawn.wait()
        for mounted in (self.root, self.directory):
            subprocess.run(["umount", "--lazy", str(mounted)], check=False, capture_output=True)


def _run(command: Sequence[str]) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{command}: {ended.stderr}"


def _child_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    text = children.read_text() if children.exists() else ""
    return int(text.split()[0]) if text.split() else 0


def _link(link: Path, target: str) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
